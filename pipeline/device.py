"""Which device and number format to run on: chosen from what the machine has, never assumed."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(wanted: str = "auto") -> torch.device:
    """The device named, or the best there is: CUDA, then Intel XPU, then Apple MPS, then the CPU.

    Raises:
        ValueError: the device named is not known to torch or not in this machine; the message says what is.
    """
    available = available_devices()
    if wanted == "auto":
        return torch.device(available[0])
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ValueError(f"the device is {wanted!r}; this machine has {', '.join(available)}") from error
    if device.type not in available:
        hint = " (the default torch package on Windows has no CUDA: see the README)" if device.type == "cuda" else ""
        raise ValueError(f"torch finds no {device.type} device here; this machine has {', '.join(available)}{hint}")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise ValueError(f"the device is {wanted!r}, but there are only {torch.cuda.device_count()} CUDA devices")
    return device


def available_devices() -> list[str]:
    """Device types that work here, the best first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.xpu.is_available():
        found.append("xpu")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_dtype(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """The number format named, or the fastest that is safe for PyTorch on ``device``.

    GPUs take float16. A CPU takes bfloat16 only where it has matrix instructions for it (AMX): elsewhere PyTorch is
    slower in bfloat16 than in float32, also where the processor has other instructions for it. What a backend
    calculates in that runs on copies of the weights is its own choice (``pipeline/backends/openvino/formats.py``).

    Raises:
        ValueError: the format is not one of ``DTYPES``.
    """
    if wanted != "auto":
        if wanted not in DTYPES:
            raise ValueError(f"the number format is {wanted!r}; it must be auto, {', '.join(DTYPES)}")
        return DTYPES[wanted]
    if device.type != "cpu":
        return torch.float16
    return torch.bfloat16 if cpu_has_amx() else torch.float32


def number_format(dtype: torch.dtype) -> str:
    """As ``DTYPES`` calls it."""
    return str(dtype).removeprefix("torch.")


def cpu_has_amx() -> bool:
    """Whether the CPU has Intel's matrix tiles, which make bfloat16 pay."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())


def cpu_abilities() -> frozenset[str]:
    """The instruction sets that the CPU has, as torch calls them: ``avx512_bf16``; empty where torch does not tell."""
    probe = getattr(torch.cpu, "get_capabilities", dict)  # not in older ones
    return frozenset(name for name, there in probe().items() if there is True)


def uploaded(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``, without the host waiting for the device: on CUDA by way of pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
