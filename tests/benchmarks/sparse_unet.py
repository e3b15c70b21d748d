"""How right and how fast the UNet alone is where only a part of the picture changed.

``uv run python -m tests.benchmarks.sparse_unet`` changes a part of a latent, and compares the sparse UNet with the
whole one: ``inside`` of what changed, in the ``rim`` of four pixels around that, and over ``all`` of the picture. Over
the whole picture, the error of a small change hardly tells. Errors are root mean squares, as a share of the output's.
``nothing`` is the error inside where nothing is computed. ``again`` is the error inside after a second change of the
same place. ``speed`` is the median of the whole UNet's time over the sparse one's, in turns.

The network has Stable Diffusion 1.5's layout at a fifth of its width and random weights (``narrow-sd15``), as in the
comparison with the code of SIGE's authors (arXiv 2211.02048), whose figures are in ``SIGE``. Writes
``results/sparse-unet-narrow-sd15-cpu.json``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from pipeline import load_model
from pipeline.sparse.rectangles import Rectangle, grown
from tests.benchmarks import machine, material
from tests.pipeline.sparse.bench import Bench, pixels

SIZE = 64  # of the latent: a picture of 512x512
RIM = 4
# Errors inside, and times of the whole over those of the part, of SIGE (commit ef8b123) for changes of the same areas.
# They were measured on two cores of an AMD EPYC, by its authors' code, which is not here.
SIGE = {"square 1.2 %": (0.042, 5.35), "square 5 %": (0.058, 2.21), "square 15 %": (0.046, 0.74)}


def cases() -> Iterator[tuple[str, list[Rectangle]]]:
    """What changes, in pixels of the latent, by a name that says how much that is of the picture."""
    for area in (0.012, 0.05, 0.15):
        side = round(SIZE * math.sqrt(area))
        start = (SIZE - side) // 2
        yield f"square {100 * area:g} %", [(start, start, start + side, start + side)]
    blobs = [(14, 13), (46, 12), (15, 47), (45, 45)]
    yield "four blobs 1.5 %", [(x, y, x + 4, y + 4) for x, y in blobs]
    yield "twelve dots 1.2 %", [(2 + 5 * n, 2 + 5 * n, 4 + 5 * n, 4 + 5 * n) for n in range(12)]
    yield "line 1.6 %", [(0, 31, SIZE, 32)]


def mask_of(places: list[Rectangle], margin: int = 0) -> torch.Tensor:
    """(SIZE, SIZE) bool."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for place in places:
        left, top, right, bottom = grown(place, margin, SIZE, SIZE)
        mask[top:bottom, left:right] = True
    return mask


def measured(bench: Bench, places: list[Rectangle], rounds: int) -> dict[str, float]:
    """The figures of one change."""
    inside, rim = mask_of(places), mask_of(places, RIM) & ~mask_of(places)
    after = [bench.changed(places, seed) for seed in (11, 12)]
    change = [tuple(pixels(*place) for place in places)]
    bench.sparse.forget()
    bench(bench.before, [None])
    before, expected = bench.dense(bench.before), [bench.dense(latents) for latents in after]

    def wrong(found: torch.Tensor, number: int, where: torch.Tensor) -> float:
        error = (found - expected[number])[..., where].square().mean().sqrt()
        return round(float(error / expected[number].square().mean().sqrt()), 4)

    found = bench(after[0], change)
    everywhere = torch.ones_like(inside)
    result = {
        "nothing": wrong(before, 0, inside),
        "inside": wrong(found, 0, inside),
        "rim": wrong(found, 0, rim),
        "all": wrong(found, 0, everywhere),
        "again": wrong(bench(after[1], change), 1, inside),
        "computed": round(bench.sparse.share, 3),
    }
    times: dict[str, list[float]] = {"whole": [], "part": []}
    for number in range(2 * rounds):
        for name in ("whole", "part"):
            latents = after[number % 2]
            started = time.perf_counter()
            if name == "whole":
                bench.dense(latents)
            else:
                bench(latents, change)
            times[name].append(time.perf_counter() - started)
    ratios = [whole / part for whole, part in zip(times["whole"], times["part"], strict=True)]
    return result | {
        "speed": round(statistics.median(ratios), 2),
        "ms": round(1e3 * statistics.median(times["part"]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="narrow-sd15", help="narrow-sd15, sd15, sd-turbo or a folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder:
        spec = material.model_folder(options.model, Path(folder) / "model")
        model = load_model(str(spec), device="cpu", dtype="float32")
    bench = Bench(model=model, size=(SIZE, SIZE))
    bench(bench.before, [None])
    for seed in range(20, 28):  # until it has been found out how windows are best run
        places = [(26, 26, 33, 33)]
        bench(bench.changed(places, seed), [tuple(pixels(*place) for place in places)])
    results: dict[str, object] = {"model": options.model, "surrounded": bench.sparse._trial.surrounds, "cases": {}}
    found: dict[str, dict[str, float]] = {}
    for name, places in cases():
        found[name] = measured(bench, places, options.rounds)
        theirs = f"; SIGE: inside {SIGE[name][0]}, speed {SIGE[name][1]}" if name in SIGE else ""
        console.print(f"{name}: {found[name]}{theirs}")
    results["cases"] = found
    console.print(f"written to {machine.save(f'sparse-unet-{options.model}', results)}")


if __name__ == "__main__":
    main()
