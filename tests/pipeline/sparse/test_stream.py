"""A sparse stream against the dense one: equal where nothing is left out, near it where something is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import GUIDANCE_KINDS, Stream, StreamConfig, load_model
from pipeline.backends.eager import EagerBackend
from pipeline.backends.graphs import CUDA_GRAPHS, GraphBackend
from pipeline.sparse import progress as progress_module
from pipeline.sparse import recording as recording_module
from pipeline.sparse import unet as unet_module
from pipeline.sparse import windowed_autoencoder as autoencoder_module
from pipeline.sparse.costs import Costs
from pipeline.sparse.detector import ChangeDetector
from pipeline.sparse.engine import SparseEngine
from pipeline.sparse.unet import SparseUNet
from tests.tiny_model import tiny_model

CONFIG = StreamConfig(
    prompt="a watercolour", negative_prompt="a photo", steps=2, strength=0.6, guidance_scale=1.4, delta=0.9
)
CLOSE = 1e-4
SIZE = (96, 128)


@pytest.fixture(autouse=True)
def _small_parts_chosen_by_area(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that fit into small pictures, and no measured time that decides anything."""
    monkeypatch.setattr(unet_module, "LATENT_SIDES", (4, 8, 12))
    monkeypatch.setattr(autoencoder_module, "PICTURE_SIDES", (32, 48, 64, 96))
    monkeypatch.setattr(Costs, "note", lambda *_: None)


def picture(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, *SIZE, generator=generator)


def with_square(background: torch.Tensor, left: int, top: int = 40, side: int = 16) -> torch.Tensor:
    frame = background.clone()
    frame[:, top : top + side, left : left + side] = 1 - frame[:, top : top + side, left : left + side]
    return frame


def run(config: StreamConfig, calls: Iterable[torch.Tensor], sees_input: bool = True) -> list[torch.Tensor]:
    stream = Stream(tiny_model(sees_input), config)
    images = [stream(frames).image.clone() for frames in calls]
    stream.close()
    return images


def psnr(image: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * torch.log10((image - other).square().mean() + 1e-12))


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), list(product([1, 2, 4], [1, 2])))
def test_a_still_scene_equals_dense_after_all_slots_have_seen_it(steps: int, buffer: int, guidance: str) -> None:
    config = replace(CONFIG, steps=steps, guidance=guidance)
    frames = torch.stack([picture(number) for number in range(buffer)])
    calls = [frames] * (steps + 3)
    dense, sparse = run(config, calls)[-1], run(replace(config, sparse=True), calls)[-1]
    assert torch.allclose(sparse, dense, atol=CLOSE)


@pytest.mark.parametrize("solver", ["lcm", "dpmpp-2m", "dpmpp-2s", "dpmpp-2m-sde"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_wave_restores_equality(monkeypatch: pytest.MonkeyPatch, steps: int, solver: str) -> None:
    """A square walks; then the scene stands still, and one keyframe has washed out what was left of the walk."""
    monkeypatch.setattr(progress_module, "KEYFRAME_EVERY", 6)
    config = replace(CONFIG, steps=steps, solver=solver, guidance="self-negative")
    walk = [with_square(picture(), 16 * step) for step in range(6)]
    calls = walk + [walk[-1]] * (5 + steps)
    dense, sparse = run(config, calls), run(replace(config, sparse=True), calls)
    assert not torch.allclose(sparse[3], dense[3], atol=CLOSE), "the walk was not sparse"
    assert psnr(sparse[3], dense[3]) > 25
    assert torch.allclose(sparse[-1], dense[-1], atol=CLOSE)


@pytest.mark.parametrize("solver", ["lcm", "dpmpp-2m", "dpmpp-2s", "dpmpp-2m-sde"])
@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
def test_nothing_is_left_behind_where_slots_do_not_move(
    monkeypatch: pytest.MonkeyPatch, guidance: str, solver: str
) -> None:
    """The stream batch writes only around what changed: as if it had written everywhere."""
    config = replace(CONFIG, steps=3, solver=solver, guidance=guidance, sparse=True)
    calls = [with_square(picture(), 16 * step)[None] for step in (0, 1, 2, 2, 2, 2, 2, 4, 5)]
    found = run(config, calls)
    monkeypatch.setattr(SparseEngine, "moving", lambda _: None)
    for image, expected in zip(found, run(config, calls), strict=True):
        assert torch.allclose(image, expected, atol=1e-6)


def test_nothing_is_left_behind_where_one_row_is_whole_and_another_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of a whole row is another everywhere, and not only around what changed."""
    monkeypatch.setattr(unet_module, "ZEROS_HALO", 4)  # so wide that in some rows windows do not pay
    mixed: list[bool] = []
    called = SparseUNet.__call__

    def counted(unet: SparseUNet, *arguments: Any) -> torch.Tensor:
        output = called(unet, *arguments)
        mixed.append(unet.any_whole and unet.share < 1)
        return output

    monkeypatch.setattr(SparseUNet, "__call__", counted)
    calls = [with_square(picture(), 16 * step)[None] for step in (0, 1, 2, 2, 2, 2, 2, 4, 5)]
    config = replace(CONFIG, steps=3, sparse=True)
    found = run(config, calls)
    assert any(mixed)
    monkeypatch.setattr(SparseEngine, "moving", lambda _: None)
    for image, expected in zip(found, run(config, calls), strict=True):
        assert torch.allclose(image, expected, atol=1e-6)


def test_a_scene_cut_is_dense_at_once() -> None:
    calls = [picture(0)] * 3 + [picture(1)]
    config = replace(CONFIG, steps=1)
    dense, sparse = run(config, calls)[-1], run(replace(config, sparse=True), calls)[-1]
    assert torch.allclose(sparse, dense, atol=CLOSE)


def test_wholly_changed_frames_in_a_row_are_mostly_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[torch.Tensor] = []
    look = ChangeDetector.look

    def counted(detector: ChangeDetector, frame: torch.Tensor, needed: np.ndarray | None = None) -> np.ndarray:
        looks.append(frame)
        return look(detector, frame, needed)

    monkeypatch.setattr(ChangeDetector, "look", counted)
    stream = Stream(tiny_model(), replace(CONFIG, steps=1, sparse=True))
    cuts = [picture(number) for number in range(20)]
    shown = [stream(frame).image for frame in cuts]
    assert len(looks) == 6, "the first four after the first frame, then one in eight"
    assert stream.sparse is not None
    after = [stream(cuts[-1]).image for _ in range(progress_module.LOOK_EVERY)]
    assert stream.sparse.still, "that the scene stands still again is soon seen"
    assert torch.equal(after[-1], shown[-1])
    stream.close()


@pytest.mark.parametrize("cuts", [5, 7, 8])
@pytest.mark.parametrize(("steps", "buffer"), [(1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("then", ["still", "skipped", "told", "prompt"])
def test_what_comes_after_wholly_changed_frames_equals_dense(
    monkeypatch: pytest.MonkeyPatch, cuts: int, steps: int, buffer: int, then: str
) -> None:
    """Nothing is kept of most of them: whatever comes next must not take what is older for theirs."""
    monkeypatch.setattr(recording_module, "RECORD_EVERY", 1)
    config = replace(CONFIG, steps=steps, similarity_filter=then == "skipped")
    frames = [torch.stack([picture(100 * one + number) for one in range(buffer)]) for number in range(cuts)]
    dense, sparse = Stream(tiny_model(True), config), Stream(tiny_model(True), replace(config, sparse=True))
    last = torch.stack([with_square(frame, 32) for frame in frames[-1]]) if then == "told" else frames[-1]
    still = [last] * (progress_module.LOOK_EVERY + steps + 2)
    for number, frame in enumerate([*frames, *still, *frames[:steps]]):
        if number == cuts and then == "prompt":
            for stream in (dense, sparse):
                stream.configure(replace(stream.config, prompt="a neon sign"))
        changed: list[list[tuple[int, int, int, int]]] | None = None
        if then == "told" and cuts <= number < cuts + len(still):
            changed = [[(32, 40, 48, 56)] if number == cuts else []] * buffer
        if number >= cuts + len(still):
            assert sparse.sparse is not None
            assert sparse.sparse.still or number > cuts + len(still) or then == "skipped", "that is soon seen"
        expected, found = dense(frame, changed=changed), sparse(frame, changed=changed)
        assert found.skipped == expected.skipped
        assert torch.allclose(found.image, expected.image, atol=CLOSE), f"frame {number}"
    dense.close()
    sparse.close()


CHANGES = {
    "prompt": {"prompt": "a neon sign"},
    "blend": {"prompt_b": "ink", "blend": 0.5},
    "strength": {"strength": 0.4},
    "more steps": {"steps": 4},
    "fewer steps": {"steps": 1},
    "solver": {"solver": "euler"},
    "guidance": {"guidance": "full"},
    "scale": {"guidance": "onetime-negative", "guidance_scale": 2.0},
    "seed": {"seed": 7},
    "off": {"sparse": False},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_live_change_holds_for_a_still_scene(change: str) -> None:
    """All frames in flight become other pictures, although no frame changes."""
    before = replace(CONFIG, steps=3, sparse=True)
    after = replace(before, **CHANGES[change])
    stream, frame = Stream(tiny_model(True), before), picture()
    for _ in range(5):
        stream(frame)
    stream.configure(after)
    images = [stream(frame).image.clone() for _ in range(after.steps + 2)]
    stream.close()
    expected = run(replace(after, sparse=False), [frame] * (after.steps + 2))[-1]
    assert torch.allclose(images[-1], expected, atol=CLOSE)


def test_switched_on_while_running() -> None:
    model, config = tiny_model(True), replace(CONFIG, steps=3)
    frames = [with_square(picture(), 16 * step) for step in range(4)]
    expected = run(config, [*frames, *[frames[-1]] * 8])[-1]
    stream = Stream(model, config)
    for frame in frames[:2]:
        stream(frame)
    stream.configure(replace(config, sparse=True))
    assert stream.sparse is not None
    images = [stream(frame).image for frame in [*frames[2:], *[frames[-1]] * 8]]
    stream.close()
    assert psnr(images[-1], expected) > 35


def test_size_buffer_reset_and_flush() -> None:
    stream = Stream(tiny_model(True), replace(CONFIG, sparse=True, steps=2))
    for frames in (torch.rand(1, 3, 64, 64), torch.rand(2, 3, 64, 96), torch.rand(1, 3, 72, 40)):
        output = [stream(frames) for _ in range(3)][-1]
        expected = run(CONFIG, [frames] * 4)[-1] if len(frames) == 1 else None
        assert output.image.shape == frames.shape
        assert expected is None or torch.allclose(output.image, expected, atol=CLOSE)
    assert len(stream.flush()) == 1
    stream.reset()
    stream(torch.rand(3, 64, 64))
    stream.close()


def test_the_similarity_filter_works_beside_it() -> None:
    config = replace(CONFIG, sparse=True, steps=3, similarity_filter=True, similarity_threshold=0.9)
    stream, frame = Stream(tiny_model(True), config), picture()
    moved = with_square(frame, 32)
    outputs = [stream(one) for one in [frame] * 4 + [moved] * 8]
    stream.close()
    assert any(output.skipped for output in outputs)
    assert psnr(outputs[-1].image, run(replace(CONFIG, steps=3), [moved] * 5)[-1]) > 30


def test_exact_rectangles_are_all_that_is_computed() -> None:
    stream, frame = Stream(tiny_model(True), replace(CONFIG, sparse=True, steps=1)), picture()
    stream(frame, changed=[None])
    stream(frame, changed=[[]])
    assert stream.sparse is not None
    assert stream.sparse.active is not None
    assert not stream.sparse.active.any()
    stream(with_square(frame, 32), changed=[[(32, 40, 48, 56)]])
    assert stream.sparse.active.sum() == 4
    stream.close()


def test_rectangles_are_not_trusted_after_frames_that_the_filter_skipped() -> None:
    skipping = replace(
        CONFIG, sparse=True, steps=1, similarity_filter=True, similarity_threshold=0.0, similarity_skip_cap=1
    )
    stream, frame = Stream(tiny_model(True), skipping), picture()
    moved = with_square(frame, 32)
    stream(frame)
    assert stream(moved, changed=[[(32, 40, 48, 56)]]).skipped
    assert not stream(moved, changed=[[]]).skipped, "the cap"
    assert stream.sparse is not None
    assert stream.sparse.active is not None
    assert stream.sparse.active.any(), "the square came with the frame that was skipped"
    stream.close()


def test_the_overlay_tints_what_was_computed() -> None:
    config = replace(CONFIG, sparse=True, steps=1)
    plain, shown = Stream(tiny_model(True), config), replace(config, sparse_overlay=True)
    calls = [picture(), with_square(picture(), 32)]
    without = [plain(frame).image.clone() for frame in calls][-1]
    plain.configure(shown)
    still = plain(calls[-1]).image
    assert torch.equal(still, without), "nothing was computed, nothing is tinted"
    tinted = plain(calls[0]).image
    plain.close()
    assert (tinted - without).abs().amax() > 0.05


def test_the_overlay_follows_a_change_of_size() -> None:
    stream = Stream(tiny_model(True), replace(CONFIG, sparse=True, sparse_overlay=True, steps=1))
    small = picture()[:, :64, :64]
    for frame in (small, with_square(small, 16), picture(), small):
        output = stream(frame)
        assert output.image.shape[1:] == frame.shape
    stream.close()


def noisy_clip(length: int = 200) -> list[torch.Tensor]:
    """Noise, slowly rising light, and a square that walks."""
    generator = torch.Generator().manual_seed(4)
    small = picture()[None, :, ::16, ::16]
    smooth = torch.nn.functional.interpolate(small, (64, 96), mode="bilinear")[0] * 0.6 + 0.1
    clip = []
    for number in range(length):
        lit = with_square(smooth * (1 + 0.3 * number / length), number % 80, 24)
        clip.append((lit + torch.randn(lit.shape, generator=generator) / 255).clamp(0, 1))
    return clip


def worst_input(clip: list[torch.Tensor]) -> float:
    """The least PSNR, over the last 40 frames, between a frame and what the networks are shown in its place."""
    model = tiny_model(True)
    engine = SparseEngine(model, EagerBackend(model))
    engine.begin(clip[0][None], 1)
    shown = clip[0][None]
    found = []
    for frame in clip:
        admitted = engine.admit(frame[None])
        shown = shown if admitted is None else admitted.clone()
        found.append(psnr(shown[0], frame))
    engine.close()
    return min(found[-40:])


def against_the_previous_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    look = ChangeDetector.look

    def other_look(self: ChangeDetector, frame: torch.Tensor, needed: np.ndarray | None = None) -> np.ndarray:
        kept, self.reference = self.reference, getattr(self, "seen", self.reference)
        active = look(self, frame, needed)
        self.reference, self.__dict__["seen"] = kept, frame.clone()
        return active

    monkeypatch.setattr(ChangeDetector, "look", other_look)


def test_200_noisy_frames_stay_near_dense_but_not_by_the_frame_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "KEYFRAME_EVERY", 10_000)  # no wave may help
    model, config, clip = load_model("embedded", "cpu", "float32"), replace(CONFIG, steps=1), noisy_clip()

    def played(sparse: bool) -> list[torch.Tensor]:
        stream = Stream(model, replace(config, sparse=sparse))
        images = [stream(frame).image.clone() for frame in clip]
        stream.close()
        return images[-40:]

    def worst() -> float:
        return min(map(psnr, played(True), dense))

    dense = played(False)
    assert worst() > 34
    against_the_previous_frame(monkeypatch)
    assert worst() < 24


def test_slow_light_is_seen_against_what_was_processed_last_but_not_against_the_frame_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "KEYFRAME_EVERY", 10_000)
    clip = noisy_clip()
    last_processed = worst_input(clip)
    against_the_previous_frame(monkeypatch)
    assert worst_input(clip) + 3 < last_processed
    assert last_processed > 30


def test_what_is_not_run_in_parts_is_said() -> None:
    model = tiny_model()
    backend = GraphBackend(model, "compile", CUDA_GRAPHS)
    assert Stream(model, CONFIG, backend).notes == []
    stream = Stream(model, replace(CONFIG, sparse=True), backend)
    assert ["compile" in note for note in stream.notes] == [True]
    assert stream.configure(CONFIG) == []
    assert stream.configure(replace(CONFIG, sparse=True)) == stream.notes
    stream.close()
    backend.close()
