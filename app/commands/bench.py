"""``vitrail bench``: what this machine can do, in about a minute."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from app.commands.misuse import Misuse
from app.energy import EnergyMeter
from app.metrics import percentile
from app.settings import SIZE_STEP, SMALLEST_SIDE, write_json
from app.sinks import SinkError
from app.sinks.video import check_writable
from pipeline.config import StreamConfig

if TYPE_CHECKING:
    import torch

    from pipeline import Model

LARGEST_SIDE = 4096
_PROMPT = "a watercolour painting"
_FEWEST_FRAMES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One measured combination.

    Attributes:
        size: side of the square picture in pixels.
        fps: pictures a second, all waiting included.
        latency_ms: 50th and 95th percentile from a frame's hand-over to its own picture in the host's memory. With T
            steps a picture comes T calls after its frame.
        stages_ms: medians of encode, unet, decode.
        memory_mb: of the GPU where there is one, else of the process; the most so far.
        watts: mean power of the device; None where it cannot be read.
    """

    size: int
    steps: int
    acceleration: str
    fps: float
    latency_ms: dict[str, float]
    stages_ms: dict[str, float]
    memory_mb: int
    watts: float | None


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Carry the command out. Raises ``Misuse``."""
    _check(arguments)
    from app.commands.progress import say  # imports torch
    from pipeline import ModelError, load_model

    say(console, f"loading {arguments.model}")
    try:
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    except (ModelError, ValueError) as error:
        raise Misuse(str(error)) from error
    sizes = arguments.size or [model.default_size]
    rows: list[Row] = []
    try:
        for row in _measure(model, arguments, sizes, console):
            rows.append(row)
            say(console, f"{row.acceleration}, {row.size}x{row.size}, {row.steps} steps: {row.fps:.1f} fps")
    finally:  # an interrupted run has told something, too
        if rows:
            Console().print(_table(model, rows))
    if not rows:
        raise Misuse("nothing could be measured")
    if arguments.json is not None:
        try:
            write_json(arguments.json, _report(model, rows))
        except OSError as error:
            raise Misuse(f"The figures cannot be written to {arguments.json}: {error.strerror}.") from error
        say(console, f"all figures are in {arguments.json}")
    return 0


def measure(model: Model, frames: torch.Tensor, config: StreamConfig, seconds: float) -> Row:
    """Stream ``frames`` (N, 3, S, S) round and round for ``seconds``, engines built and warm."""
    from pipeline import Stream

    stream = Stream(model, config)
    stream(frames[0], tags=[None])
    stream(frames[0], tags=[None])  # by now every engine that this stream needs is ordered
    model.backend.wait()
    for _ in range(config.steps + 2):
        stream(frames[0], tags=[None])
    meter, began = EnergyMeter(str(model.device)), time.perf_counter()
    latencies: list[float] = []
    count = 0
    while time.perf_counter() - began < seconds or count < _FEWEST_FRAMES + config.steps:
        output = stream(frames[count % len(frames)], tags=[time.perf_counter()])
        output.image.cpu()  # the one thing that waits for the device
        if output.tags[0] is not None:
            latencies.append(1e3 * (time.perf_counter() - output.tags[0]))
        count += 1
    took, joules = time.perf_counter() - began, meter.joules()
    latencies.sort()
    stages = stream.stages_ms()
    stream.close()
    return Row(
        size=frames.shape[-1],
        steps=config.steps,
        acceleration=model.acceleration,
        fps=round(count / took, 2),
        latency_ms={"p50": round(percentile(latencies, 50), 2), "p95": round(percentile(latencies, 95), 2)},
        stages_ms={name: round(value, 2) for name, value in stages.items()},
        memory_mb=_memory(model),
        watts=None if joules is None else round(joules / took, 1),
    )


def _check(arguments: argparse.Namespace) -> None:
    for size in arguments.size or []:
        if not SMALLEST_SIDE <= size <= LARGEST_SIDE or size % SIZE_STEP:
            span = f"between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels"
            raise Misuse(f"size is {size}; it must be a multiple of {SIZE_STEP} {span}")
    try:
        for steps in arguments.steps:
            StreamConfig(steps=steps)
    except ValueError as error:
        raise Misuse(str(error)) from error
    if not 0 < arguments.seconds <= 600:
        raise Misuse(f"seconds is {arguments.seconds:g}; it must be above 0 and at most 600")
    if arguments.json is not None:
        try:
            check_writable(arguments.json)
        except SinkError as error:
            raise Misuse(f"The file for the figures {error}") from error


def _measure(model: Model, arguments: argparse.Namespace, sizes: list[int], console: Console) -> Iterator[Row]:
    """A row for each combination; what cannot be had or does not fit is said, and left out."""
    from app.commands.progress import say
    from pipeline.acceleration import AccelerationError, accelerate

    seen: set[str] = set()
    for wanted in arguments.acceleration:
        try:
            fast = accelerate(model, wanted)
        except AccelerationError as error:
            if len(arguments.acceleration) == 1:
                raise Misuse(str(error)) from error
            say(console, str(error))
            continue
        for note in fast.notes:
            say(console, note)
        if fast.acceleration in seen:  # auto may be what was measured already
            continue
        seen.add(fast.acceleration)
        for size in sizes:
            frames = _frames(size)
            for steps in arguments.steps:
                try:
                    yield measure(fast, frames, StreamConfig(prompt=_PROMPT, steps=steps), arguments.seconds)
                except (RuntimeError, MemoryError) as error:  # torch says so where memory is too small
                    say(console, f"{fast.acceleration}, {size}x{size}, {steps} steps cannot be run: {error}")
        fast.backend.close()


def _frames(size: int) -> torch.Tensor:
    """(16, 3, size, size) float 0..1: smooth shapes that move, and some grain, as a camera gives."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    grain = 0.02 * torch.randn(16, 3, size, size, generator=generator)
    moved = torch.cat([picture.roll(4 * step, dims=3) for step in range(16)])
    return (moved + grain).clamp(0, 1)


def _memory(model: Model) -> int:
    """MiB: the most that the GPU has held, or what the process holds."""
    import psutil
    import torch

    if model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(model.device) / 2**20)
    return int(psutil.Process().memory_info().rss / 2**20)


def _table(model: Model, rows: list[Row]) -> Table:
    powered = any(row.watts is not None for row in rows)
    columns = ["", "size", "steps", "fps", "latency\np50, p95", "encode, unet,\ndecode", "memory"]
    title = f"{model.name} on {_processor(model)}, {str(model.dtype).removeprefix('torch.')}; times in ms"
    table = Table(*columns, *(["power"] if powered else []), title=title)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        latency = f"{row.latency_ms['p50']:.0f}, {row.latency_ms['p95']:.0f}"
        stages = ", ".join(f"{row.stages_ms[name]:.1f}" for name in ("encode", "unet", "decode"))
        cells = [row.acceleration, str(row.size), str(row.steps), f"{row.fps:.1f}", latency, stages]
        cells += [f"{row.memory_mb} MiB"] + ([f"{row.watts:.0f} W" if row.watts is not None else ""] if powered else [])
        table.add_row(*cells)
    return table


def _processor(model: Model) -> str:
    import torch

    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    return (
        f"{platform.machine()}, {torch.get_num_threads()} threads" if model.device.type == "cpu" else str(model.device)
    )


def _report(model: Model, rows: list[Row]) -> dict[str, Any]:
    return {
        "model": model.name,
        "device": str(model.device),
        "processor": _processor(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "rows": [asdict(row) for row in rows],
    }
