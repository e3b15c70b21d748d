"""Sparse inference against the dense path of the same model on the same backend.

``uv run python -m tests.benchmarks.sparse`` changes a square, four blobs or a line of a still picture in every frame,
at areas from 1.2 to 100 %, and plays real clips; and writes ``results/sparse-512-T1-float32-cpu.json`` (or
``-bfloat16``, or ``-cuda``, and with the acceleration where one was chosen). Beside the sparse engine it measures one
bounding box with a halo instead of several rectangles, the whole-frame similarity filter, and the dense path once more:
what chance does. All play the same frames in turns, a few frames each, and each is sometimes the first: a machine's
slow moments meet them alike. ``speed`` is the median, over all frames, of the dense time of a frame over its time here;
``unet_speed`` is the same of the UNet's stage alone (with the solver's step). ``mean_ms`` has its share of keyframes in
it. The PSNR is against the dense picture of the same frame, and of the input as the sparse engine sees it.
``psnr_inside`` is that of the blocks that changed, and ``psnr_rim`` that of the 24 pixels around them: over the whole
picture, the error of a small change hardly tells.

``--model sd15`` is Stable Diffusion 1.5's architecture with random weights (at 512x512: minutes a case on a CPU, where
``--ways sparse --frames 5 --burst 2 --rounds 1`` is enough).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console

from app.tensors import mark
from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.backend import Backend
from pipeline.sparse import effective_input, progress, unet
from pipeline.sparse.rectangles import BLOCK, cover
from tests.benchmarks import machine, material
from tests.video import frames_of, middle_square

# Blocks of 8 pixels around what changed.
RIM_BLOCKS = 3
AREAS = (0.012, 0.05, 0.10, 0.15, 0.25, 0.50, 1.0)
WAYS = ("sparse", "bounding box", "similarity filter", "dense again")
CLIPS = Path(__file__).parents[2] / ".." / "shared" / "data" / "video"


@dataclass
class Measured:
    """What one stream did with one clip."""

    seconds: list[float] = field(default_factory=list)
    unet: list[float] = field(default_factory=list)  # milliseconds of its stage
    pictures: list[torch.Tensor] = field(default_factory=list)
    inputs: list[torch.Tensor] = field(default_factory=list)
    computed: list[dict[str, float]] = field(default_factory=list)
    active: list[np.ndarray] = field(default_factory=list)  # (H / 8, W / 8) bool
    memory: int = 0


def places(shape: str, area: float, size: int) -> list[tuple[int, int, int, int]]:
    """Rectangles (left, top, right, bottom) of ``area`` together; nowhere on the grid of blocks."""
    if shape == "line":
        top = size // 2 + 3
        return [(0, top, size, top + max(1, round(area * size)))]
    if shape == "square":
        side = round(size * math.sqrt(area))
        start = (size - side) // 2
        return [(start, start, start + side, start + side)]
    side = round(size * math.sqrt(area / 4))
    centres = [
        (size // 4 + across * size // 2 + 5, size // 4 + down * size // 2 - 3) for across in (0, 1) for down in (0, 1)
    ]
    return [(x - side // 2, y - side // 2, x - side // 2 + side, y - side // 2 + side) for x, y in centres]


def changing(shape: str, area: float, size: int, count: int) -> torch.Tensor:
    """(count, 3, size, size): a still picture, through whose places a moving one is seen."""
    still = material.to_tensor(material.frames(1, size))
    clip = still.repeat(count, 1, 1, 1)
    for number in range(count):
        # What is seen through them is the same picture, farther on in each frame, and brighter or darker.
        moving = still[0].roll((37 * (number + 1), 61 * (number + 1)), (1, 2)) * (0.8 if number % 2 else 1)
        for left, top, right, bottom in places(shape, area, size):
            clip[number, :, top:bottom, left:right] = moving[:, top:bottom, left:right]
    return clip


def played(path: Path, size: int, count: int, skip: int = 20) -> torch.Tensor:
    """(count, 3, size, size) of a video's middle."""
    pictures = [
        cv2.resize(middle_square(pixels), (size, size), interpolation=cv2.INTER_AREA)
        for pixels in islice(frames_of(path), skip, skip + count)
    ]
    return material.to_tensor(np.stack(pictures))


@contextlib.contextmanager
def one_box() -> Iterator[None]:
    """All changes of a frame in one rectangle."""
    before = effective_input.cover, unet.MAX_WINDOWS
    effective_input.cover, unet.MAX_WINDOWS = partial(cover, most=1), 1
    yield
    effective_input.cover, unet.MAX_WINDOWS = before


@contextlib.contextmanager
def keyframe() -> Iterator[None]:
    """The next frames are taken as wholly changed."""
    before = progress.KEYFRAME_EVERY
    progress.KEYFRAME_EVERY = 1
    yield
    progress.KEYFRAME_EVERY = before


def streams(model: Model, backend: Backend, config: StreamConfig, ways: Sequence[str]) -> dict[str, Stream]:
    filtered = replace(config, similarity_filter=True, similarity_threshold=0.98)
    configs = {"sparse": replace(config, sparse=True), "bounding box": replace(config, sparse=True)}
    configs |= {"similarity filter": filtered, "dense again": config}
    configs = {"dense": config, **{way: configs[way] for way in ways}}
    return {way: Stream(model, one, backend) for way, one in configs.items()}


def play(
    running: Mapping[str, Stream], clip: torch.Tensor, burst: int, found: dict[str, Measured] | None, turn: int
) -> None:
    """All streams play the clip, ``burst`` frames each in turn; the first frames of their slots do not count.

    Which is the first changes with each burst and ``turn``: whoever comes after another finds the processor's memory
    full of that one's.
    """
    for stream in running.values():
        stream.reset()
    lead = running["dense"].config.steps + 1
    frames = [*clip[: lead - 1], *clip]
    bursts = [(frames[:lead], False)]
    bursts += [(frames[first : first + burst], True) for first in range(lead, len(frames), burst)]
    names = list(running)
    for number, (part, counts) in enumerate(bursts, turn):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            with one_box() if name == "bounding box" else contextlib.nullcontext():
                for frame in part:
                    step(running[name], frame, found[name] if counts and found is not None else Measured())


def step(stream: Stream, frame: torch.Tensor, into: Measured) -> None:
    """One frame."""
    stream.restart_clock()  # it is of this frame alone
    started = time.perf_counter()
    picture = stream(frame).image
    done = mark(picture.device)
    if done is not None:  # not the device as a whole, for a graph may be captured meanwhile
        done()
    into.seconds.append(time.perf_counter() - started)
    into.unet.append(stream.stages_ms()["unet"])
    into.pictures.append(picture.clone())
    if stream.sparse is not None and stream.sparse.active is not None:
        into.inputs.append(stream.sparse.pictures.clone())
        into.computed.append(stream.sparse.shares())
        into.active.append(np.asarray(stream.sparse.active.any(0)))
        into.memory = stream.sparse.memory
    else:
        into.inputs.append(frame.clone())  # so that the next frame finds the processor's memory as full


def keyframe_ms(stream: Stream, clip: torch.Tensor) -> float:
    """What a frame costs that is wholly taken anew, its other slots still as they were."""
    times = []
    for _ in range(3):
        for frame in clip[:3]:
            stream(frame)
        with keyframe():
            started = time.perf_counter()
            stream(clip[3])
            times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def compare(
    model: Model, backend: Backend, config: StreamConfig, clip: torch.Tensor, options: argparse.Namespace
) -> dict[str, Any]:
    """All ways on one clip."""
    running = streams(model, backend, config, options.ways)
    found = {name: Measured() for name in running}
    for turn in range(options.warm_up + options.rounds):
        play(running, clip, options.burst, found if turn >= options.warm_up else None, turn)
        backend.wait()
    key = keyframe_ms(running["sparse"], clip) if "sparse" in running else None
    result: dict[str, Any] = {"keyframe_ms": None if key is None else rounded(key)}
    for name, one in found.items():
        result[name] = summary(one, found["dense"] if name != "dense" else None, key)
    if config.steps == 1 and "sparse" in running:
        running["dense"].reset()
        running["dense"](clip[0])
        last = found["sparse"].inputs[-(len(clip) - 1) :]
        expected = [running["dense"](picture).image.clone() for picture in last]
        result["psnr_on_effective_input"] = quality(found["sparse"].pictures[-len(last) :], expected)
    for stream in running.values():
        stream.close()
    return result


def summary(found: Measured, dense: Measured | None, key: float | None) -> dict[str, Any]:
    """``key`` is what a keyframe takes, in milliseconds."""
    times = [1e3 * seconds for seconds in found.seconds]
    mean = statistics.mean(times)
    if key is not None and found.computed:
        mean += (key - mean) / progress.KEYFRAME_EVERY
    result: dict[str, Any] = {
        "p50_ms": rounded(statistics.median(times)),
        "p95_ms": rounded(np.quantile(times, 0.95)),
        "mean_ms": rounded(mean),
        "unet_ms": rounded(statistics.median(found.unet)),
    }
    if dense is not None:
        result |= {
            "speed": speed(dense.seconds, found.seconds),
            "unet_speed": speed(dense.unet, found.unet),
            "psnr": quality(found.pictures, dense.pictures),
        }
        if found.computed:
            result |= near_changes(found, dense)
    if found.computed:
        names = found.computed[0]
        result["active"] = round(statistics.mean(float(mask.mean()) for mask in found.active), 4)
        result["computed"] = {name: round(statistics.mean(one[name] for one in found.computed), 3) for name in names}
        result["memory_mib"] = round(found.memory / 2**20, 1)
    return result


def near_changes(found: Measured, dense: Measured) -> dict[str, dict[str, float]]:
    """PSNR of the blocks that changed, and of those around them, in all pictures that have any."""
    inside, rim = [], []
    for blocks, picture, expected in zip(found.active, found.pictures, dense.pictures, strict=True):
        near = cv2.dilate(blocks.astype(np.uint8), np.ones((2 * RIM_BLOCKS + 1,) * 2, np.uint8)).astype(bool)
        for mask, into in ((blocks, inside), (near & ~blocks, rim)):
            pixels = torch.from_numpy(mask.repeat(BLOCK, 0).repeat(BLOCK, 1)[: picture.shape[2], : picture.shape[3]])
            if pixels.any():
                into.append((picture[..., pixels], expected[..., pixels]))
    named = {"inside": inside, "rim": rim}
    return {f"psnr_{name}": quality(*zip(*pairs, strict=True)) for name, pairs in named.items() if pairs}


def speed(before: Sequence[float], now: Sequence[float]) -> dict[str, float] | None:
    """How many times as fast each frame is as the same frame before; None where nothing was done."""
    ratios = [one / other for one, other in zip(before, now, strict=True) if other]
    if not ratios:
        return None
    quarter, half, three = (round(float(one), 2) for one in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return {"median": half, "lower_quartile": quarter, "upper_quartile": three}


def quality(pictures: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> dict[str, float]:
    """PSNR in dB of all pictures."""
    errors = list(map(psnr, pictures, expected))
    return {"mean": rounded(statistics.mean(errors)), "least": rounded(min(errors))}


def psnr(picture: torch.Tensor, other: torch.Tensor) -> float:
    """dB, at most 120."""
    return -10 * math.log10(float((picture - other).square().mean()) + 1e-12)


def rounded(value: float) -> float:
    return round(float(value), 1)


def cases(options: argparse.Namespace) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and frames, one after the other."""
    for area in AREAS:
        if wanted(name := f"square {100 * area:g} %", options.only):
            yield name, changing("square", area, options.size, options.frames)
    for clip in options.clips:
        if wanted(clip, options.only) and (CLIPS / f"{clip}.mp4").exists():
            yield clip, played(CLIPS / f"{clip}.mp4", options.size, options.frames)
    for shape, areas in (("blobs", (0.012, 0.05, 0.10, 0.25)), ("line", AREAS[:2])):
        for area in areas:
            if wanted(name := f"{shape} {100 * area:g} %", options.only):
                yield name, changing(shape, area, options.size, options.frames)


def wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name == one or name.startswith(f"{one} ") for one in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="embedded, plain, sd15, sd-turbo or a folder")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--acceleration", default="auto")
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16 or float16")
    parser.add_argument("--prompt", default=material.PROMPT, help="another one is measured, but nothing is written")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--warm-up", type=int, default=2, help="turns that do not count, in which engines are built")
    parser.add_argument(
        "--only", nargs="*", default=[], help="cases whose name begins with these words: 'square', 'line 5', box"
    )
    parser.add_argument("--add", action="store_true", help="keep the other cases that were measured on this commit")
    parser.add_argument("--burst", type=int, default=8, help="frames that each way plays in its turn")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS, help="what to measure beside dense")
    parser.add_argument("--clips", nargs="*", default=["talking_woman_office", "box"])
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        spec = options.model
        if spec != "embedded":
            spec = str(material.model_folder(spec, Path(folder) / "model"))
        model = load_model(spec, dtype=options.dtype)
    backend = accelerate(model, options.acceleration)
    backend.capabilities = replace(backend.capabilities, windows=True)  # what is no default is measured, too
    config = StreamConfig(prompt=options.prompt, strength=0.8, steps=options.steps)
    name = "sparse" if options.model == "embedded" else f"sparse-{options.model}"
    dtype = backend.numbers.partition(" ")[0]  # of other processors: figures do not compare
    name += f"-{options.size}-T{options.steps}-{dtype}"
    if options.acceleration != "auto":
        name += f"-{backend.name}"
    results: dict[str, Any] = {
        "model": options.model,
        "size": options.size,
        "steps": options.steps,
        "acceleration": backend.name,
        "dtype": dtype,
        "cases": {},
    }
    if options.add:
        results["cases"] = machine.measured_before(name).get("cases", {})
    path = Path()
    for case, clip in cases(options):
        found = compare(model, backend, config, clip, options)
        results["cases"][case] = {"command": f"python -m tests.benchmarks.sparse {' '.join(sys.argv[1:])}", **found}
        for way in ("dense", *options.ways):
            one = found[way]
            shown = ("p50_ms", "speed", "unet_ms", "unet_speed", "psnr", "psnr_inside", "psnr_rim")
            figures = {name: one[name] for name in shown if name in one}
            console.print(f"{case}, {way}: {figures}")
        if options.prompt == material.PROMPT:
            path = machine.save(name, results)
    backend.close()
    if not results["cases"]:
        console.print("no case has such a name")
    elif path.name:
        console.print(f"written to {path}")


if __name__ == "__main__":
    main()
