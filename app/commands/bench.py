"""``vitrail bench``: what this machine can do, in about a minute."""

from __future__ import annotations

import argparse
import contextlib
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from app.commands.advice import Row, advice, further_sizes, steps_said
from app.commands.misuse import Misuse
from app.commands.paths import check_apart, model_files
from app.commands.terminal import Results, console_on
from app.energy import EnergyMeter
from app.json_files import write_json
from app.metrics import percentile
from app.settings import SIZE_STEP, SMALLEST_SIDE, Settings
from app.sinks import SinkError
from app.sinks.video import check_writable
from pipeline.config import ACCELERATIONS, StreamConfig

if TYPE_CHECKING:
    import torch

    from pipeline import Model
    from pipeline.backends.backend import Backend

LARGEST_SIDE = 4096
MOST_FPS = 1000
# Of the picture, where nothing else is said.
SPARSE_PERCENT = (5.0, 25.0)
# Besides these, the number that the model recommends.
USUAL_STEPS = (1, 2, 4)
# Measured where they are asked for by name only: their networks take minutes to build.
_SLOW_TO_BUILD = ("compile",)
_PROMPT = "a watercolour painting"
_FEWEST_FRAMES = 5
# Frames that one stream plays before it is another's turn: what else the machine does meets all alike.
_BURST = 4
# Rounds of all frames until sparse inference has the networks that it wants, and what these have to know.
_SPARSE_ROUNDS = 3


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Carry the command out. Raises ``Misuse``."""
    _check(arguments)
    from app.commands.progress import say  # imports torch
    from pipeline import ModelError, load_model

    say(console, f"loading {arguments.model}")
    try:
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
        model.modules.get()  # all of it, so that nothing is read beside what is measured
    except (ModelError, ValueError) as error:
        raise Misuse(str(error)) from error
    own_steps = model.defaults.get("steps")
    steps = arguments.steps or sorted({*USUAL_STEPS, own_steps or 1})
    rows: list[Row] = []
    try:
        for row in _measure(model, arguments, steps, console):
            rows.append(row)
            changes = "" if row.changes is None else f", {row.changes:g} % change"
            say(
                console,
                f"{row.acceleration}, {row.size}x{row.size}, {steps_said(row.steps)}{changes}: {row.fps:.1f} fps",
            )
    finally:  # an interrupted run has told something, too
        advised = advice(rows, arguments.fps, model.default_size, own_steps) if rows else []
        if rows:
            printed = console_on(Results())
            printed.print(_table(model, rows), soft_wrap=True)
            for sentence in advised:
                printed.print(sentence, soft_wrap=True, highlight=False)
    if not rows:
        raise Misuse("nothing could be measured")
    if arguments.json is not None:
        try:
            write_json(arguments.json, {**_report(model, rows), "advice": advised})
        except OSError as error:
            raise Misuse(f"The figures cannot be written to {arguments.json}: {error.strerror}.") from error
        say(console, f"all figures are in {arguments.json}")
    return 0


class _Playing:
    """A stream, and what was measured of it. Engines are built and warm.

    Args:
        tell: is given what the stream has to say of these settings.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        frames: torch.Tensor,
        config: StreamConfig,
        tell: Callable[[str], object],
    ) -> None:
        from pipeline import Stream

        self.stream = Stream(model, config, backend)
        self.seconds: list[float] = []  # of each frame
        self._model, self._frames, self._steps = model, frames, config.steps
        self._latencies: list[float] = []
        self._joules: float | None = 0.0
        for note in self.stream.notes:
            tell(note)
        self._call([frames[0]] * 2)  # by now every engine that this stream needs is ordered
        backend.wait()
        self._call([frames[0]] * (config.steps + 2))
        for _ in range(_SPARSE_ROUNDS if config.sparse else 0):
            self._call(frames)
            backend.wait()

    def burst(self) -> None:
        """Play the next frames, measured."""
        meter = EnergyMeter(str(self._model.device))
        for _ in range(_BURST):
            began = time.perf_counter()
            output = self.stream(self._frames[len(self.seconds) % len(self._frames)], tags=[began])
            output.image.cpu()  # the one thing that waits for the device
            ended = time.perf_counter()
            if output.tags[0] is not None:
                self._latencies.append(1e3 * (ended - output.tags[0]))
            self.seconds.append(ended - began)
        joules = meter.joules()
        self._joules = None if joules is None or self._joules is None else self._joules + joules

    def row(self) -> Row:
        """What was measured so far."""
        stages = self.stream.stages_ms()
        return Row(
            size=self._frames.shape[-1],
            steps=self._steps,
            acceleration=self.stream.backend.name,
            numbers=self.stream.backend.numbers,
            fps=round(len(self.seconds) / sum(self.seconds), 2),
            latency_ms={f"p{share}": round(percentile(sorted(self._latencies), share), 2) for share in (50, 95)},
            stages_ms={name: round(value, 2) for name, value in stages.items()},
            memory_mb=_memory(self._model),
            watts=None if self._joules is None else round(self._joules / sum(self.seconds), 1),
        )

    def _call(self, frames: Iterable[torch.Tensor]) -> None:
        for frame in frames:
            self.stream(frame, tags=[None])


def measure(
    model: Model,
    backend: Backend,
    frames: torch.Tensor,
    configs: Sequence[StreamConfig],
    seconds: float,
    tell: Callable[[str], object],
) -> list[Row]:
    """Stream ``frames`` (N, 3, S, S) round and round, by streams of all ``configs`` in turns.

    Args:
        seconds: for each of them, about.
        tell: is given what a stream has to say of its settings.
    """
    playing = [_Playing(model, backend, frames, config, tell) for config in configs]
    fewest, end = _FEWEST_FRAMES + max(config.steps for config in configs), time.perf_counter() + seconds * len(configs)
    while time.perf_counter() < end or len(playing[0].seconds) < fewest:
        for one in playing:
            one.burst()
    usual = [percentile(sorted(one.seconds), 50) for one in playing]
    rows = [replace(one.row(), speed=round(usual[0] / its, 2)) for one, its in zip(playing, usual, strict=True)]
    for one in playing:
        one.stream.close()
    return rows


def _check(arguments: argparse.Namespace) -> None:
    for size in arguments.size or []:
        if not SMALLEST_SIDE <= size <= LARGEST_SIDE or size % SIZE_STEP:
            span = f"between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels"
            raise Misuse(f"size is {size}; it must be a multiple of {SIZE_STEP} {span}")
    try:
        for steps in arguments.steps or USUAL_STEPS:
            StreamConfig(steps=steps)
    except ValueError as error:
        raise Misuse(str(error)) from error
    for percent in arguments.sparse or []:
        if not 0 < percent <= 100:
            raise Misuse(f"sparse is {percent:g}; what changes must be above 0 and at most 100 percent of the picture")
    if not 0 < arguments.fps <= MOST_FPS:
        raise Misuse(f"fps is {arguments.fps:g}; it must be above 0 and at most {MOST_FPS}")
    if not 0 < arguments.seconds <= 600:
        raise Misuse(f"seconds is {arguments.seconds:g}; it must be above 0 and at most 600")
    if arguments.json is not None:
        try:
            check_writable(arguments.json)
        except SinkError as error:
            raise Misuse(f"The file for the figures {error}") from error
        check_apart(model_files(Settings(model=arguments.model)), {"the file for the figures": arguments.json})


def _measure(model: Model, arguments: argparse.Namespace, steps: Sequence[int], console: Console) -> Iterator[Row]:
    """A row for each combination; what cannot be had or does not fit is said, and left out."""
    from app.commands.progress import say

    chosen: list[int] | None = arguments.size
    own, tell = model.default_size, partial(say, console)
    for first, backend in _backends(model, arguments.acceleration, tell):
        for note in (*model.notes, *backend.news()):
            tell(note)
        rows: list[Row] = []
        for row in _with_steps(model, backend, chosen or [own], steps, arguments, tell):
            rows.append(row)
            yield row
        # Other sizes by the one that ``auto`` takes, and by the fewest steps: the rest follows from the own size.
        if chosen is None and first and rows:
            further = further_sizes(max(row.fps for row in rows), arguments.fps, own)
            yield from _with_steps(model, backend, further, [min(steps)], arguments, tell)
        backend.close()


def _with_steps(
    model: Model,
    backend: Backend,
    sizes: Sequence[int],
    steps: Sequence[int],
    arguments: argparse.Namespace,
    tell: Callable[[str], object],
) -> Iterator[Row]:
    for size in sizes:
        frames = _frames(size)
        for number in steps:
            try:
                yield from _with_sparse(model, backend, frames, number, arguments, tell)
            except (RuntimeError, MemoryError) as error:  # torch says so where memory is too small
                tell(f"{backend.name}, {size}x{size}, {steps_said(number)} cannot be run: {error}")


def _backends(
    model: Model, wanted: Sequence[str] | None, tell: Callable[[str], object]
) -> Iterator[tuple[bool, Backend]]:
    """The accelerations that are asked for, or all that are there; each once, and whether it is the first."""
    from pipeline.backends import AccelerationError, accelerate

    seen: set[str] = set()
    for name in wanted or [one for one in ACCELERATIONS if one not in _SLOW_TO_BUILD]:
        try:
            backend = accelerate(model, name)
        except AccelerationError as error:
            if wanted is not None and len(wanted) == 1:
                raise Misuse(str(error)) from error
            if wanted is not None:
                tell(str(error))
            continue
        if backend.name in seen:  # auto may be what was measured already
            backend.close()
            continue
        seen.add(backend.name)
        yield len(seen) == 1, backend


def _with_sparse(
    model: Model,
    backend: Backend,
    frames: torch.Tensor,
    steps: int,
    arguments: argparse.Namespace,
    tell: Callable[[str], object],
) -> Iterator[Row]:
    """The row of one combination, then one with sparse inference for each share of the picture that changes."""
    config = StreamConfig(prompt=_PROMPT, steps=steps)
    yield from measure(model, backend, frames, [config], arguments.seconds, tell)
    if arguments.sparse is None:
        return
    for percent in arguments.sparse or SPARSE_PERCENT:
        both = config, replace(config, sparse=True)
        yield replace(
            measure(model, backend, _changing(frames, percent), both, arguments.seconds, tell)[1], changes=percent
        )


def _changing(frames: torch.Tensor, percent: float) -> torch.Tensor:
    """The first of ``frames`` (N, 3, S, S), still but for a square in its middle: another in each frame."""
    import torch

    size = frames.shape[-1]
    side = max(1, round(size * (percent / 100) ** 0.5))
    inside = slice((size - side) // 2, (size - side) // 2 + side)
    still = frames[:1].repeat(len(frames), 1, 1, 1)
    colours = torch.rand(len(frames), 3, 16, 16, generator=torch.Generator().manual_seed(1))
    still[:, :, inside, inside] = torch.nn.functional.interpolate(colours, size=(side, side))
    return still


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
    sparse = any(row.changes is not None for row in rows)
    columns = ["", "size", "steps", *(["change"] if sparse else []), "fps", *(["speed"] if sparse else [])]
    columns += ["latency\np50, p95", "encode,\nunet, decode", "MiB", *(["watts"] if powered else [])]
    title = f"{model.name} on {_processor(model)}; times in ms"
    table = Table(*columns, title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for column in table.columns:
        column.justify, column.no_wrap = "left" if column is table.columns[0] else "right", True
    for row in rows:
        cells = [f"{row.acceleration},\n{row.numbers}", str(row.size), str(row.steps)]
        cells += [("" if row.changes is None else f"{row.changes:g} %")] if sparse else []
        cells += [f"{row.fps:.1f}"] + ([_short(row.speed)] if sparse else [])
        stages = ", ".join(_short(row.stages_ms[name]) for name in ("encode", "unet", "decode"))
        cells += [f"{row.latency_ms['p50']:.0f}, {row.latency_ms['p95']:.0f}", stages, str(row.memory_mb)]
        cells += [f"{row.watts:.0f}" if row.watts is not None else ""] if powered else []
        table.add_row(*cells)
    return table


def _short(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def _processor(model: Model) -> str:
    import torch

    if model.device.type == "cuda":
        return torch.cuda.get_device_name(model.device)
    if model.device.type != "cpu":
        return str(model.device)
    return f"{_name_of_cpu()}, {torch.get_num_threads()} threads"


def _name_of_cpu() -> str:
    """What the system calls the processor; else its architecture."""
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _report(model: Model, rows: list[Row]) -> dict[str, Any]:
    return {
        "model": model.name,
        "device": str(model.device),
        "processor": _processor(model),
        "rows": [asdict(row) for row in rows],
    }
