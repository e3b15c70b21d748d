"""For any network: the batch equals denoising each frame alone, whatever the solver, and after every live change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch

from pipeline import GUIDANCE_KINDS, SOLVERS
from pipeline.diffusion.guidance import Guidance, RowLayout
from pipeline.diffusion.schedule import VariancePreserving
from pipeline.diffusion.solver import SolverTable, plan
from pipeline.diffusion.stream_batch import StreamBatch
from tests.pipeline.diffusion.any_network import NETWORKS, STABLE_DIFFUSION, Convolutions, Network, alone, guide

GUIDANCES = [Guidance(kind, 1.6, 0.8) for kind in GUIDANCE_KINDS]
CHEAP = [name for name in NETWORKS if name != "tiny UNet"]
# A real UNet in every number of steps and frames is in test_stream.py, against a reference of its own.
CASES = [*product(CHEAP, [1, 2, 4], [1, 2]), ("tiny UNet", 4, 2)]


@cache
def made(name: str) -> Network:
    return NETWORKS[name]()


def table_of(network: Network, solver: str, steps: int, strength: float = 0.8) -> SolverTable:
    return plan(solver, network.schedule, steps, strength)


@torch.inference_mode()
def finished(batch: StreamBatch, clip: torch.Tensor) -> list[torch.Tensor]:
    """The latents that are finished, tick by tick, as frames come in in groups of F."""
    return [latent for group in clip.split(batch.frames) for latent in batch.tick(group).clone()]


@pytest.mark.parametrize(("name", "steps", "frames"), CASES)
def test_batch_equals_each_frame_alone(name: str, steps: int, frames: int) -> None:
    network = made(name)
    clip = network.clip(frames * steps)
    for solver, guidance in product(SOLVERS, GUIDANCES):
        table = table_of(network, solver, steps)
        batch = network.batch(table, frames, guidance)
        last = finished(batch, clip)[-frames:]
        # At tick T the first group is finished.
        expected = alone(network, table, clip[frames - 1], guidance)
        assert torch.allclose(last[-1], expected, atol=network.close), (solver, guidance.kind)


@pytest.mark.parametrize("name", CHEAP)
def test_runs_long_enough_for_every_order(name: str) -> None:
    """Seven steps: whole groups of three, and third order before and behind in the middle of the run."""
    network = made(name)
    clip = network.clip(9)
    for solver, guidance in product(SOLVERS, GUIDANCES):
        table = table_of(network, solver, 7)
        assert table.uses("oldest") == (solver == "unipc-3")
        last = finished(network.batch(table, 1, guidance), clip)
        for index in (0, 2):
            expected = alone(network, table, clip[index], guidance)
            assert torch.allclose(last[index + 6], expected, atol=network.close), (solver, guidance.kind, index)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["velocity", "noise prediction"])
def test_a_run_from_noise_alone(name: str, solver: str) -> None:
    """Each frame brings its own noise, at a level where (flow matching) there is no signal at all."""
    network = made(name)
    starts, blank = network.clip(5, seed=3), torch.zeros(1, *network.shape, dtype=network.dtype)
    table = plan(solver, network.schedule, 3, 0.5, from_noise=True)
    for guidance in GUIDANCES:
        batch = network.batch(table, 1, guidance)
        with torch.inference_mode():
            last = [batch.tick(blank, start[None])[0].clone() for start in starts]
        for index in (0, 2):
            expected = alone(network, table, blank[0], guidance, start=starts[index])
            assert bool(expected.isfinite().all())
            assert torch.allclose(last[index + 2], expected, atol=network.close), (guidance.kind, index)


BEFORE = ("lcm", 3, Guidance("onetime-negative", 1.6, 0.8))
CHANGES = {
    "more steps": ("lcm", 5, BEFORE[2]),
    "fewer steps": ("lcm", 2, BEFORE[2]),
    "one step": ("lcm", 1, Guidance()),
    "no guidance": ("lcm", 3, Guidance()),
    "full guidance": ("lcm", 3, Guidance("full", 1.6)),
    "self-negative": ("lcm", 3, Guidance("self-negative", 1.6, 0.8)),
    "rescaled": ("lcm", 3, Guidance("full", 1.6, rescale=0.7)),
    "another scale": ("lcm", 3, replace(BEFORE[2], scale=1.2)),
    **{f"to {solver}": (solver, 4, Guidance("self-negative", 1.4, 0.9)) for solver in SOLVERS[1:]},
}


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_again_after_each_live_change(name: str, change: str, back: bool) -> None:
    network = made(name)
    first, second = (CHANGES[change], BEFORE) if back else (BEFORE, CHANGES[change])
    clip = network.clip(12)
    batch = network.batch(table_of(network, *first[:2]), 1, first[2])
    finished(batch, clip[:5])
    solver, steps, guidance = second
    table = table_of(network, solver, steps, 0.7)
    batch.change(table, network.noise(steps, seed=4))
    guide(batch, guidance)
    after = finished(batch, clip[5:])
    assert all(bool(latent.isfinite().all()) for latent in after)
    for index in (0, 7 - steps):
        expected = alone(network, table, clip[5 + index], guidance, seed=4)
        assert torch.allclose(after[index + steps - 1], expected, atol=network.close), index


@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if solver not in ("lcm", "tcd", "dpmpp-2m-sde")])
@pytest.mark.parametrize("before", ["ddim", "dpm-3", "unipc-3"])
def test_after_a_change_every_latent_is_at_the_noise_level_of_its_position(before: str, solver: str) -> None:
    """Of a model that knows the picture a latent is that picture under its noise, and so is what an anchor leads to."""
    schedule = VariancePreserving.from_config({**STABLE_DIFFUSION, "prediction_type": "sample"})
    picture = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    network = Network(lambda rows, *_: picture.expand_as(rows), schedule, (3, 6, 5))
    batch = network.batch(table_of(network, before, 5), 1, Guidance())
    finished(batch, picture.expand(5, 3, 6, 5))
    table, noise = table_of(network, solver, 7), network.noise(7, seed=4)
    batch.change(table, noise)
    for _ in range(2):
        for k in range(1, 7):
            expected = table.alpha[k] * picture + table.sigma[k] * noise[0]
            assert torch.allclose(batch._slots["x"][k, 0], expected, atol=1e-9), k
        finished(batch, picture[None])


@pytest.mark.parametrize("solver", ["lcm", "ddim", "dpmpp-3m", "dpm-3", "unipc-3"])
@pytest.mark.parametrize(("before", "after"), list(product(GUIDANCES, GUIDANCES)))
@pytest.mark.parametrize("name", CHEAP)
def test_frames_in_flight_go_on_under_another_guidance(
    name: str, before: Guidance, after: Guidance, solver: str
) -> None:
    """As if each had been denoised alone, under the one until then and under the other from then on."""
    network, steps = made(name), 4
    if {before.kind, after.kind} == {"self-negative", "onetime-negative"}:
        after = replace(after, kind=before.kind, scale=1.2)
    clip, table = network.clip(8), table_of(network, solver, steps)
    batch = network.batch(table, 1, before)
    finished(batch, clip[:4])  # frame 0 is finished, frames 1, 2 and 3 are about to take steps 3, 2 and 1
    guide(batch, after)
    last = finished(batch, clip[4:])
    for frame, taken in ((1, 3), (2, 2), (3, 1)):
        guidances = [before] * taken + [after] * (steps - taken)
        expected = alone(network, table, clip[frame], guidances)
        assert torch.allclose(last[frame - 1], expected, atol=network.close), frame


def test_guidance_by_the_input_picture() -> None:
    network, guidance = made("seeing the input"), Guidance("full", 1.6, image_scale=1.3)
    clip, table = network.clip(6), table_of(network, "unipc-2", 3)
    last = finished(network.batch(table, 2, guidance), clip)
    assert torch.allclose(last[5], alone(network, table, clip[1], guidance), atol=network.close)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_primed_batch_holds_its_frame_at_every_position(name: str) -> None:
    network = made(name)
    frame = network.clip(1)
    for solver, guidance in product(("lcm", "unipc-3", "dpm-3"), GUIDANCES):
        table = table_of(network, solver, 4)
        batch = network.batch(table, 1, guidance)
        expected = alone(network, table, frame[0], guidance)
        with torch.inference_mode():
            assert torch.allclose(batch.prime(frame)[0], expected, atol=network.close)
            for _ in range(3):
                assert torch.allclose(batch.tick(frame)[0], expected, atol=network.close)


HINTED = Network(Convolutions(3, 3, shown=2), made("velocity").schedule, (3, 6, 5), shown={"hint": (2, 12, 10)})


@pytest.mark.parametrize("guidance", GUIDANCES, ids=GUIDANCE_KINDS)
@pytest.mark.parametrize("frames", [1, 2])
def test_what_is_shown_travels_with_its_frame(frames: int, guidance: Guidance) -> None:
    """The denoiser sees the hint of each row's own frame, at every step and also after a live change."""
    clip = HINTED.clip(6 * frames)
    hints = torch.randn(len(clip), 2, 12, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    table, other = table_of(HINTED, "unipc-2", 3), table_of(HINTED, "ddim", 2)

    def ticked(groups: range) -> list[torch.Tensor]:
        spans = [slice(group * frames, (group + 1) * frames) for group in groups]
        return [batch.tick(clip[span], carried={"hint": hints[span]}).clone() for span in spans]

    with torch.inference_mode():
        batch = HINTED.batch(table, frames, guidance)
        last = ticked(range(4))
        for index in range(frames):
            expected = alone(HINTED, table, clip[index], guidance, carried={"hint": hints[index]})
            assert torch.allclose(last[2][index], expected, atol=HINTED.close)
        blank = alone(HINTED, table, clip[0], guidance, carried={"hint": 0 * hints[0]})
        assert not torch.allclose(last[2][0], blank, atol=0.01)
        batch.change(other, HINTED.noise(2))
        last = ticked(range(4, 6))
        index = 4 * frames
        expected = alone(HINTED, other, clip[index], guidance, carried={"hint": hints[index]})
        assert torch.allclose(last[1][0], expected, atol=HINTED.close)
        primed = batch.prime(clip[:frames], carried={"hint": hints[:frames]})
        expected = alone(HINTED, other, clip[0], guidance, carried={"hint": hints[0]})
        assert torch.allclose(primed[0], expected, atol=HINTED.close)


MASKED_SHAPES = {"hint": (2, 4, 4), "mask": (2, 6, 5)}
MASKED = Network(
    Convolutions(3, 5, shown=2),
    made("velocity").schedule,
    (3, 6, 5),
    shown={"hint": MASKED_SHAPES["hint"]},
    beside={"mask": MASKED_SHAPES["mask"]},
)


def brought(count: int) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(5)
    return [
        {name: torch.randn(1, *shape, generator=draw, dtype=torch.float64) for name, shape in MASKED_SHAPES.items()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("guidance", GUIDANCES, ids=GUIDANCE_KINDS)
def test_what_is_a_part_of_the_rows_travels_with_its_frame(guidance: Guidance) -> None:
    table, clip, each = table_of(MASKED, "unipc-2", 3), MASKED.clip(6), brought(6)
    batch = MASKED.batch(table, 1, guidance)
    with torch.inference_mode():
        batch.prime(clip[:1], carried=each[0])
        outputs = [batch.tick(clip[k : k + 1], carried=each[k]).clone() for k in range(6)]
    for k in range(4):
        own = {name: value[0] for name, value in each[k].items()}
        assert torch.allclose(
            outputs[k + 2][0], alone(MASKED, table, clip[k], guidance, carried=own), atol=MASKED.close
        )


def test_what_travels_is_written_where_the_latent_is_not() -> None:
    """A mask may change where the picture does not."""
    batch, clip, each = MASKED.batch(table_of(MASKED, "ddim", 3), 1, Guidance()), MASKED.clip(1), brought(4)
    for own in each:
        batch.tick(clip, None, lambda: (1, 2, 2, 3), own)
    for name in MASKED_SHAPES:
        assert torch.equal(batch._slots[name][1:], torch.stack([own[name] for own in each[:0:-1]]))


def test_frames_in_flight_are_shown_what_begins_to_be_shown() -> None:
    """A hint that is switched on live is that of the next frame for those in flight; one that stays is their own."""
    table, clip = table_of(HINTED, "ddim", 3), HINTED.clip(4)
    first, other = torch.randn(2, 1, 2, 12, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    seen: list[list[float]] = []

    def denoise(
        rows: torch.Tensor, timesteps: torch.Tensor, layout: RowLayout, shown: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        seen.append([float(hint.mean()) for hint in shown["hint"]] if shown else [])
        return HINTED.denoise(rows, timesteps, layout, shown)

    batch = StreamBatch(denoise, 1, HINTED.shape)
    batch.prepare(table, HINTED.noise(3))
    with torch.inference_mode():
        batch.tick(clip[:1])
        batch.show({"hint": first})
        batch.tick(clip[1:2], carried={"hint": first})
        batch.show({"hint": other})
        batch.tick(clip[2:3], carried={"hint": other})
        batch.show({})
        batch.tick(clip[3:4])
    one, two = float(first.mean()), float(other.mean())
    assert seen == [[], [one] * 3, [two, one, one], []]


def test_every_frame_must_bring_what_was_announced() -> None:
    batch, frame = HINTED.batch(table_of(HINTED, "ddim", 2), 1, Guidance()), HINTED.clip(1)
    with pytest.raises(ValueError, match=r"the frames bring nothing; .* to the denoiser is hint"):
        batch.tick(frame)
    plain = made("velocity")
    with pytest.raises(ValueError, match=r"the frames bring hint; .* to the denoiser is nothing"):
        plain.batch(table_of(plain, "ddim", 2), 1, Guidance()).tick(frame, carried={"hint": frame})


@pytest.mark.parametrize("guidance", GUIDANCES, ids=GUIDANCE_KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_only_what_moves_is_written(solver: str, guidance: Guidance) -> None:
    """Frames that differ in one corner only: with that corner alone written the latents are the same."""
    pointwise = Network(Convolutions(3, 6, kernel=1), made("noise prediction").schedule, (3, 6, 5), sees_input=True)
    table, area = table_of(pointwise, solver, 4), (1, 2, 4, 5)
    everywhere, within = (pointwise.batch(table, 1, guidance) for _ in range(2))
    clip = pointwise.clip(1).repeat(8, 1, 1, 1)
    clip[:, :, 2:5, 1:4] = pointwise.clip(8, seed=2)[:, :, 2:5, 1:4]
    with torch.inference_mode():
        assert torch.equal(everywhere.prime(clip[:1]), within.prime(clip[:1]))
        for frame in clip.split(1):
            expected, found = everywhere.tick(frame), within.tick(frame, moving=lambda: area)
            assert torch.allclose(found, expected, atol=1e-12, rtol=1e-12)
        held = within.tick(clip[-1:], moving=lambda: area).clone()
        assert torch.equal(within.tick(0 * clip[-1:], moving=lambda: (0, 0, 0, 0)), held)


@pytest.mark.parametrize("guidance", GUIDANCES, ids=GUIDANCE_KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_nothing_is_carried_that_nobody_needs(solver: str, guidance: Guidance) -> None:
    network = made("noise prediction")
    for steps in (1, 7):
        table = table_of(network, solver, steps)
        carried = set(network.batch(table, 1, guidance)._slots.names)
        history = {name for name in ("previous", "older", "oldest", "anchor", "earlier") if table.uses(name)}
        history |= {"previous"} if steps > 1 else set()
        assert carried == {"x"} | history | ({"star"} if guidance.is_residual else set())


def test_the_slots_keep_their_memory_from_tick_to_tick() -> None:
    """A graph that was captured on them goes on being right."""
    network = made("seeing the input")
    batch = network.batch(table_of(network, "unipc-3", 7), 1, Guidance("self-negative", 1.4))
    names = batch._slots.names
    before = [batch._slots[name].data_ptr() for name in names]
    finished(batch, network.clip(3))
    guide(batch, Guidance("self-negative", 1.7))
    finished(batch, network.clip(3))
    assert [batch._slots[name].data_ptr() for name in names] == before
