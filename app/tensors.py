"""All that the application itself asks of torch, in one place.

To import torch takes seconds. Here it is imported by whoever calls first, and that is a thread of the session, beside
the window; whoever only imports the application's modules, as the window does to show itself, does not wait for it.
"""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def from_planes(planes: np.ndarray) -> torch.Tensor:
    """(3, H, W) float32 in 0..255 to a tensor in 0..1, in the same memory."""
    import torch

    return torch.from_numpy(planes).div_(255)


def stacked(frames: Sequence[torch.Tensor], places: int, device: str = "cpu") -> torch.Tensor:
    """Frames (3, H, W) as one (places, 3, H, W); the last of them fills the places that are left.

    For a CUDA ``device`` in pinned memory, out of which it copies by itself. From other memory the host copies, and
    first waits for all that the device has still to do.
    """
    import torch

    filled = [*frames, *[frames[-1]] * (places - len(frames))]
    if not device.startswith("cuda"):
        return torch.stack(filled)
    pinned = torch.empty((places, *frames[0].shape), dtype=frames[0].dtype, pin_memory=True)
    return torch.stack(filled, out=pinned)


def mark(device: torch.device) -> Callable[[], object] | None:
    """What waits until ``device`` has done all that this thread has asked of it so far, and nothing later.

    None on the CPU, which never lags. What goes wrong on the device is raised while waiting.
    """
    import torch

    if device.type == "mps":
        return torch.mps.synchronize
    accelerator = {"cuda": torch.cuda, "xpu": torch.xpu}.get(device.type)
    if accelerator is None:
        return None
    event = accelerator.Event()
    event.record(accelerator.current_stream(device))
    return event.synchronize


class ToHost:
    """Brings pictures to the host. On CUDA by a stream of its own: on the default one, the copy would wait for the
    worker's next frame. Used by one thread."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, images: torch.Tensor, alphas: torch.Tensor | None = None) -> np.ndarray:
        """(N, 3, H, W) float 0..1 on any device to (N, H, W, 3) uint8, in one copy; with (N, 1, H, W) ``alphas``, to
        (N, H, W, 4)."""
        import torch

        with torch.inference_mode(), self._beside(images.device):
            if alphas is not None:
                images = torch.cat([images, alphas.to(images.dtype)], 1)
            rounded = images.float().clamp(0, 1).mul(255).round().to(torch.uint8)
            return rounded.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _beside(self, device: torch.device) -> contextlib.AbstractContextManager:
        import torch

        if device.type != "cuda":
            return contextlib.nullcontext()
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        return torch.cuda.stream(self._stream)


def give_memory_back(error: BaseException | None = None) -> None:
    """Return what is held and not used, so that others find it free.

    Args:
        error: one that has been dealt with: what the calls that led to it were working on is let go as well.
    """
    import torch

    if error is not None:
        traceback.clear_frames(error.__traceback__)
    gc.collect()  # hooks and caches of a model refer to each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.xpu.is_available():
        torch.xpu.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def device_memory_mb() -> float:
    """Megabytes (2**20) that this process holds on the graphics card; 0 where there is none."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.memory_reserved() / 2**20
    if torch.backends.mps.is_available():
        return torch.mps.driver_allocated_memory() / 2**20
    return 0.0
