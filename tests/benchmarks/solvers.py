"""How near each solver comes, for how many calls of the model.

``python -m tests.benchmarks.solvers`` measures the product's own tables, run by its own stream batch, on a model whose
score is known (``exact_score.py``), against the true solution of the probability flow: the claim of DPM-Solver and
DPM-Solver++, where the truth is to be had: on a mixture in the plane, and on patches of real pictures.

``--svg FILE`` draws it. ``--embedded`` adds the embedded model, against its
own result of 200 steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.diffusion.schedule import VariancePreserving
from tests.benchmarks.exact_score import STABLE_DIFFUSION, Study, fine_schedule, picture_patches, rms, slope
from tests.benchmarks.log_plot import Line, log_plot
from tests.benchmarks.machine import save

CALLS = (5, 8, 10, 12, 15, 20, 25, 30, 40, 50)
# As the papers name them; but dpmpp-3m and dpm-3m, whose first step is of first order and whose term of the second
# derivative is half of what it ought to be, converge at second order.
ORDERS = {"ddim": 1, "dpmpp-2s": 2, "dpm-2": 2, "dpmpp-2m": 2, "dpm-2m": 2, "dpmpp-3s": 3, "dpm-3": 3}
ORDERS |= {"dpmpp-3m": 2, "dpm-3m": 2, "dpmpp-3m-taylor": 3, "unipc-2": 3, "unipc-3": 4}
SPACED = ("trailing", "karras", "logsnr", "time-uniform", "time-quadratic")
SLOPE_CALLS = (49, 97, 193)
# On Stable Diffusion's schedule the last step, of first order, is all that is left of the error by then: there a run is
# compared with one of so many calls, which has the same last step.
LIMIT = ("unipc-3", 2001)
PATCH_POINTS = 256
PNDM_STEPS = 50
_ELSEWHERE = 0.1

EMBEDDED_STEPS = (2, 4, 8, 15, 25)
EMBEDDED_TRUTH = 200
_PNDM = "PNDM (diffusers)", "as Stable Diffusion has it"
_PLOTTED = (("ddim", "trailing"), ("dpm-2", "logsnr"), ("dpm-3", "logsnr"), ("dpmpp-2m", "trailing"))
_PLOTTED += (("dpmpp-2m", "logsnr"), ("dpmpp-3m", "logsnr"), ("dpmpp-3m-taylor", "logsnr"))
_ON_PATCHES = ("dpmpp-2m", "dpmpp-3m", "dpmpp-3m-taylor", "dpm-3", "unipc-2", "ddim")

Name = tuple[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and keep them in ``results/``; draw the chart where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the errors on Stable Diffusion's schedule")
    parser.add_argument("--embedded", action="store_true", help="measure the embedded model too (minutes)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    schedule = VariancePreserving.from_config(STABLE_DIFFUSION)
    study = Study(schedule)
    errors = study_errors(study)
    header = ["solver", "spacing", *map(str, CALLS)]
    size = rms(study.truth)
    say(f"Distance of a component from the true solution (RMS; data {size:.2f}), by calls; PNDM takes one more")
    say(table(header, ((*name, *map(_number, row)) for name, row in errors.items())))
    if given.svg:
        given.svg.write_text(chart(errors), encoding="utf-8")
        say(f"drawn: {given.svg}\n")
    patches = Study(schedule, PATCH_POINTS, picture_patches())
    distances = patch_errors(patches)
    size = rms(patches.truth)
    say(f"The same on {len(patches.mixture.means)} picture patches (RMS of data {size:.2f}): the middle one of "
        f"{PATCH_POINTS} pictures")  # fmt: skip
    say(table(header, ((*name, *map(_number, row.middle)) for name, row in distances.items())))
    say("Pictures that end farther than 0.1 from the truth, per cent: they go to another patch")
    say(table(header, ((*name, *(f"{100 * share:.0f}" for share in row.elsewhere)) for name, row in distances.items())))
    say(f"Pictures that end nearer to the truth than with {PNDM_STEPS} steps of PNDM, per cent")
    say(table(header, ((*name, *(f"{100 * share:.0f}" for share in row.nearer)) for name, row in distances.items())))
    say("RMS over all pictures, those that go elsewhere included")
    say(table(header, ((*name, *map(_number, row.rms)) for name, row in distances.items())))
    orders = measured_orders(Study(fine_schedule()))
    on_stable_diffusion = measured_orders(study, LIMIT)
    results: dict[str, Any] = {
        "calls": CALLS,
        "errors": [{"solver": solver, "spacing": spacing, "rms": row} for (solver, spacing), row in errors.items()],
        "patches": [{"solver": name[0], "spacing": name[1], **asdict(row)} for name, row in distances.items()],
        "orders": orders,
        "orders_on_stable_diffusion": on_stable_diffusion,
    }
    say("Order of convergence in logSNR spacing, over 49 to 193 calls: on DPM-Solver's own schedule, and on Stable")
    say(f"Diffusion's beside {LIMIT[1]} calls of {LIMIT[0]}; the lower orders that end a singlestep run weigh more")
    rows = ((name, str(ORDERS[name]), f"{o:.2f}", f"{on_stable_diffusion[name]:.2f}") for name, o in orders.items())
    say(table(["solver", "order", "measured", "on Stable Diffusion's"], rows))
    if given.embedded:
        say(f"The embedded model: RMS distance of the picture (0..1) from its own after {EMBEDDED_TRUTH} steps")
        rows = embedded_distances()
        header = ["solver", "spacing", *(f"{steps} steps" for steps in EMBEDDED_STEPS)]
        say(table(header, ((*name, *(f"{value:.4f}" for value in row)) for name, row in rows.items())))
        results["embedded_steps"] = EMBEDDED_STEPS
        results["embedded"] = [{"solver": name[0], "spacing": name[1], "rms": row} for name, row in rows.items()]
    say(str(save("solvers", results)))
    return 0


def study_errors(study: Study, calls: Sequence[int] = CALLS) -> dict[Name, list[float]]:
    """Errors of every solver in every spacing, and of diffusers' PNDM."""
    rows: dict[Name, list[float]] = {}
    for solver in ORDERS:
        for spacing in SPACED:
            rows[solver, spacing] = [study.error(solver, count, spacing) for count in calls]
    rows[_PNDM] = [study.pndm_error(count) for count in calls]
    return rows


@dataclass(frozen=True, slots=True)
class OnPatches:
    """Of one solver by calls: what becomes of all the pictures.

    Attributes:
        middle: median of the pictures' distances from the truth.
        elsewhere: share of the pictures that end near another patch.
        nearer: share of the pictures that end nearer to the truth than with 50 steps of PNDM.
        rms: over all pictures.
    """

    middle: list[float]
    elsewhere: list[float]
    nearer: list[float]
    rms: list[float]


def patch_errors(study: Study, calls: Sequence[int] = CALLS) -> dict[Name, OnPatches]:
    """What becomes of the pictures of ``study`` under some solvers, and under diffusers' PNDM."""
    beside = study.away(study.run_pndm(PNDM_STEPS))

    def row(away: list[torch.Tensor]) -> OnPatches:
        return OnPatches(
            [float(one.median()) for one in away],
            [float((one > _ELSEWHERE).double().mean()) for one in away],
            [float((one < beside).double().mean()) for one in away],
            [rms(one) for one in away],
        )

    rows: dict[Name, OnPatches] = {}
    for solver in _ON_PATCHES:
        for spacing in SPACED:
            rows[solver, spacing] = row([study.away(study.run(solver, count, spacing)) for count in calls])
    rows[_PNDM] = row([study.away(study.run_pndm(count)) for count in calls])
    return rows


def measured_orders(study: Study, limit: tuple[str, int] | None = None) -> dict[str, float]:
    """The slope of each solver's error; from the truth, or from where the ``limit`` (solver, calls) ends."""
    end = study.truth if limit is None else study.run(*limit, "logsnr")
    orders = {}
    for solver in ORDERS:
        errors = [rms(study.run(solver, count, "logsnr") - end) for count in SLOPE_CALLS]
        orders[solver] = slope(SLOPE_CALLS, errors)
    return orders


def chart(errors: dict[tuple[str, str], list[float]]) -> str:
    """The SVG."""
    lines = [Line(_PNDM[0], CALLS, errors[_PNDM], dashed=True)]
    lines += [Line(f"{solver}, {spacing}", CALLS, errors[solver, spacing]) for solver, spacing in _PLOTTED]
    return log_plot("Exact score, Stable Diffusion's schedule", "calls of the model", "distance from the truth", lines)


@torch.inference_mode()
def embedded_distances(frames: int = 3) -> dict[tuple[str, str], list[float]]:
    """Each solver's pictures of 2 to 25 steps against the same model's of 200 (DPM-Solver++ 2M, trailing).

    A stream goes to 50 steps; the table and the stream batch, run here step by step, to any number.
    """
    from pipeline import load_model
    from pipeline.backends.eager import EagerBackend
    from pipeline.denoiser import Denoiser
    from pipeline.diffusion.noise import seeded_noise
    from pipeline.diffusion.solver import plan
    from pipeline.diffusion.stream_batch import StreamBatch

    model = load_model("embedded", device="cpu")
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a watercolour")
    latent = model.autoencoder.encode(_clip(frames).to(model.dtype)).float()

    def picture(solver: str, spacing: str, steps: int) -> torch.Tensor:
        steps_table = plan(solver, model.schedule, steps, 0.8, spacing)
        channels, height, width = latent.shape[1:]
        batch = StreamBatch(denoiser, frames, (channels, height, width), model.sees_input)
        # One noise for all: how far the solvers end apart is to be seen, not how far their noises are.
        noise = seeded_noise(0, 1, latent.shape[1:]).expand(steps + 1, *latent.shape[1:])
        batch.prepare(steps_table, noise)
        batch.set_guidance("none")
        return model.autoencoder.decode(batch.prime(latent).to(model.dtype)).float()

    truth = picture("dpmpp-2m", "trailing", EMBEDDED_TRUTH)
    rows = {}
    for solver in ("ddim", "dpmpp-2m", "dpmpp-3m-taylor", "lcm"):
        for spacing in ("trailing", "logsnr") if solver != "lcm" else ("its own",):
            found = [picture(solver, spacing, steps) for steps in EMBEDDED_STEPS]
            rows[solver, spacing] = [float((one - truth).square().mean().sqrt()) for one in found]
    return rows


def _clip(frames: int) -> torch.Tensor:
    """(frames, 3, 256, 256) in 0..1: some frames of the sample clip, far apart."""
    from app.capture import prepare
    from app.sources.video import VideoSource

    source = VideoSource(Path(__file__).parents[2] / "assets" / "sample" / "clip.mp4")
    source.open()
    taken = []
    try:
        while len(taken) < frames and (frame := source.read()) is not None:
            if frame.index % 60 == 10:
                taken.append(prepare(frame.pixels, 256, 256, "crop", mirror=False))
    finally:
        source.close()
    return torch.stack(taken)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns of text."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def say(text: str) -> None:
    """One paragraph to the terminal."""
    sys.stdout.write(f"{text}\n")


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
