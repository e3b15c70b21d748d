"""The run folder: pictures and latents as memory-mapped arrays, checkpoints, and the clock of a training stage."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

log = logging.getLogger(__name__)

ADOPTED = "adopted.json"  # names the model that a run goes on from


def device() -> torch.device:
    """CUDA if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_array(path: Path, shape: tuple[int, ...] | None = None, dtype: Any = np.uint8) -> np.ndarray:
    """Memory-map the .npy file at `path` for reading and writing; with `shape`, make it first if it is not there."""
    if shape is not None and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    array = np.load(path, mmap_mode="r+")
    if shape is not None and array.shape != shape:
        raise ValueError(
            f"{path.name} is of another run: {array.shape} instead of {shape}; delete it or take another --out"
        )
    return array


def place(module: nn.Module, where: torch.device) -> None:
    """Move `module` to a device, its convolutions in channels-last order, which every device here prefers."""
    nn.Module.to(module, device=where)
    nn.Module.to(module, memory_format=torch.channels_last)


class PictureStore:
    """What `prepare` makes: photos and, per style, the teacher's picture of each.

    `pictures/index.json` lists photos, training ones first; `pictures/<style>.npy` is (N, 256, 256, 3) uint8 RGB;
    `pictures/<style>.done.npy` is (N,) bool, as preparing can be cut short and resumed.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / "pictures"
        index = self.folder / "index.json"
        if not index.is_file():
            raise ValueError(f"no prepared pictures in {run}: run `prepare` first")
        self.index: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        self.train_count = int(self.index["train"])
        self.count = len(self.index["photos"])

    def pictures(self, style: str) -> np.ndarray:
        """(N, 256, 256, 3) uint8."""
        return open_array(self.folder / f"{style}.npy")

    def done(self, style: str) -> np.ndarray:
        """(N,) bool: which rows of `pictures(style)` are there."""
        path = self.folder / f"{style}.done.npy"
        return np.load(path) if path.exists() else np.zeros(self.count, bool)

    def styles(self) -> list[str]:
        """Names that have at least one picture."""
        return sorted(path.name.split(".")[0] for path in self.folder.glob("*.done.npy"))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote; only tensors and plain values are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)


def is_adopted(run: Path) -> bool:
    """Whether the training in `run` began from a finished model's weights (`adopt`)."""
    return (run / ADOPTED).is_file()


class Stateful(Protocol):
    """A module, an optimiser, an `Average`."""

    def state_dict(self) -> Any:
        """All that `load_state_dict` needs."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take over what `state_dict` gave."""


def save_parts(path: Path, parts: Mapping[str, Stateful], step: int) -> None:
    """Write the states of `parts` and the number of steps done."""
    save_checkpoint(path, {**{name: part.state_dict() for name, part in parts.items()}, "step": step})


def load_parts(path: Path, parts: Mapping[str, Stateful]) -> int:
    """Take over what `save_parts` wrote, or `adopt`: weights alone, at step 0. Returns the number of steps done."""
    state = load_checkpoint(path)
    step = int(state["step"])
    for name, part in parts.items():
        if name in state or step > 0:
            part.load_state_dict(state[name])
    return step


class Average:
    """Exponential moving average of a module's weights, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards `module`'s weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.values

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Take over saved values."""
        for name, value in state_dict.items():
            self.values[name].copy_(value)


def steps_with_clock(name: str, start: int, stop: int, minutes: float) -> Iterator[int]:
    """Count steps from `start` to `stop` with a progress bar; end early once `minutes` are over."""
    end = time.monotonic() + minutes * 60
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(name, total=stop, completed=start)
        for step in range(start, stop):
            if time.monotonic() > end:
                log.info("%s: %g minutes are over at step %d of %d; go on with --resume", name, minutes, step, stop)
                return
            yield step
            progress.advance(task)


def cosine_rate(step: int, total: int, peak: float, warm: int = 100, floor: float = 0.02) -> float:
    """Learning rate at `step`: linear warm-up, then half a cosine down to `floor` x `peak`."""
    if step < warm:
        return peak * (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, total - warm))
    return peak * (floor + (1 - floor) * 0.5 * (1 + float(np.cos(np.pi * done))))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameter groups this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
