"""A stream puts each picture together with its own frame and mask, and asks nothing of the mask while it is off."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline import Model, ModelError, Stream, StreamConfig
from pipeline.backends.backend import Tensors
from pipeline.backends.eager import EagerBackend
from pipeline.models.networks import Network
from tests.pipeline.masking.figure import figure
from tests.tiny_model import tiny_model

BASE = StreamConfig(prompt="a watercolour", strength=0.7, only="person", mask_smoothing=0.0)
SIDE = 64


def clip(count: int, *, still: bool = False) -> torch.Tensor:
    """(count, 3, 64, 64): the person moves, and so does the light on the wall."""
    frames = [figure(SIDE, SIDE, shift=0 if still else 12 * number) for number in range(count)]
    return torch.stack(frames)


class CountingBackend(EagerBackend):
    """Counts how often each network is run."""

    def __init__(self, model: Model | None = None) -> None:
        super().__init__(model or tiny_model())
        self.calls: dict[str, int] = {}

    def run(self, network: Network, moving: Tensors, staying: Tensors) -> dict[str, torch.Tensor]:
        self.calls[network.name] = self.calls.get(network.name, 0) + 1
        return super().run(network, moving, staying)


def shown(stream: Stream, frames: torch.Tensor, buffer: int = 1) -> dict[int, torch.Tensor]:
    """Every picture by its tag, those in flight at the end included."""
    outputs = [stream(group) for group in frames.split(buffer)] + stream.flush()
    return {
        tag: picture
        for output in outputs
        if not output.repeated
        for tag, picture in zip(output.tags, output.image, strict=True)
    }


@pytest.mark.parametrize(("steps", "buffer"), list(product([1, 2, 4], [1, 3])))
def test_each_picture_is_put_together_with_its_own_frame_and_mask(steps: int, buffer: int) -> None:
    frames, config = clip(6), replace(BASE, steps=steps)
    pictures = shown(Stream(tiny_model(), config), frames, buffer)
    plain = shown(Stream(tiny_model(), replace(config, only="everything")), frames, buffer)
    assert list(pictures) == list(range(6))
    for tag, frame in enumerate(frames):
        alone = Stream(tiny_model(), replace(config, background="none"))(frame)
        assert alone.alpha is not None
        expected = torch.lerp(frame, plain[tag], alone.alpha[0])
        assert torch.allclose(pictures[tag], expected, atol=1e-4), tag


def test_only_the_background_leaves_the_person_real() -> None:
    frame = figure(SIDE, SIDE)
    person = Stream(tiny_model(), BASE)(frame).image
    background = Stream(tiny_model(), replace(BASE, only="background"))(frame).image
    plain = Stream(tiny_model(), replace(BASE, only="everything"))(frame).image
    assert torch.allclose(person + background, plain + frame, atol=1e-5)
    assert torch.allclose(background[0, :, 23, 35], frame[:, 23, 35])  # the face
    assert torch.allclose(person[0, :, 5, 5], frame[:, 5, 5])  # the wall


def test_off_costs_nothing() -> None:
    backend = CountingBackend()
    stream = Stream(backend._model, replace(BASE, only="everything", steps=2), backend)
    frames = clip(4)
    for frame in frames[:2]:
        output = stream(frame)
        assert output.alpha is None
        assert output.image.data_ptr() == stream._image.data_ptr()  # nothing was copied, either
    assert "person" not in backend.calls
    assert not any(stream._compositor._scenes._places)
    stream.configure(replace(stream.config, only="person"))
    stream(frames[2])
    assert backend.calls["person"] == 1
    stream.configure(replace(stream.config, only="everything"))
    stream(frames[3])
    assert backend.calls["person"] == 1
    assert stream._compositor._finder is None


def test_the_mask_is_found_once_a_frame_however_many_steps_and_whatever_is_skipped() -> None:
    backend = CountingBackend()
    stream = Stream(backend._model, replace(BASE, steps=4, similarity_filter=True, similarity_threshold=0.9), backend)
    for number, frame in enumerate(clip(8, still=True)):
        stream(frame, at=number / 30)
    assert backend.calls["person"] == backend.calls["encoder"] < 8


@pytest.mark.parametrize("setting", ["similarity_filter", "sparse"])
def test_a_still_scene_comes_to_the_picture_that_it_has_alone(setting: str) -> None:
    frames = clip(9, still=True)
    alone = Stream(tiny_model(), replace(BASE, steps=3))(frames[0]).image
    stream = Stream(tiny_model(), replace(BASE, steps=3, **{setting: True}))
    stream(1 - frames[0], at=-1.0)
    outputs = [stream(frame, at=float(number)) for number, frame in enumerate(frames)]
    assert torch.allclose(outputs[-1].image, alone, atol=2e-3)


def test_every_setting_changes_while_frames_are_in_flight() -> None:
    frames = clip(12)
    stream = Stream(tiny_model(), replace(BASE, only="everything", steps=3))
    changes = [
        {},
        {"only": "person"},
        {"background": "blur:3"},
        {"background": "none"},
        {"steps": 1},
        {"steps": 4, "only": "background"},
        {"background": "green"},
        {"mask_growth": 4, "mask_feather": 0},
        {"mask_growth": -4, "mask_smoothing": 1.0},
        {"only": "everything", "background": ""},
        {"background": "none"},
        {"text_to_image": True},
    ]
    for frame, change in zip(frames, changes, strict=True):
        assert stream.configure(replace(stream.config, **change)) == []
        output = stream(frame)
        assert output.image.shape == (1, 3, SIDE, SIDE)
        assert bool(output.image.isfinite().all())
        if stream.config.background != "none" or stream.config.text_to_image:
            assert output.alpha is None
    # Pictures of words alone have no input to find a person in, although the background is to be nothing.
    assert stream(frames[0]).alpha is None
    stream.configure(replace(stream.config, text_to_image=False, background="none", only="person", mask_smoothing=0.0))
    settled = [stream(frames[0]) for _ in range(5)][-1]
    alone = Stream(tiny_model(), stream.config)(frames[0])
    assert torch.allclose(settled.image, alone.image, atol=1e-3)
    assert settled.alpha is not None
    assert alone.alpha is not None
    assert torch.allclose(settled.alpha, alone.alpha, atol=1e-4)


def test_what_is_in_flight_when_it_is_turned_on_is_shown_whole_and_what_comes_next_is_not() -> None:
    frames = clip(5)
    stream = Stream(tiny_model(), replace(BASE, only="everything", steps=3))
    for frame in frames[:2]:
        stream(frame)
    stream.configure(replace(stream.config, background="none"))
    alphas = [stream(frame).alpha for frame in frames[2:]]
    assert [alpha is not None for alpha in alphas] == [False, False, True]


def test_a_picture_stands_behind_the_person(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, :75], pixels[:, 75:125], pixels[:, 125:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    cv2.imwrite(str(path), pixels)
    stream = Stream(tiny_model(), replace(BASE, only="background", background=str(path)))
    image = stream(figure(SIDE, SIDE)).image[0]
    assert torch.allclose(image[:, 2, 60], torch.tensor([0.0, 1.0, 0.0]), atol=0.01)  # cut from its middle
    small = stream(figure(32, SIDE)).image[0]  # another shape shows more of it
    assert torch.allclose(small[:, 1, 62], torch.tensor([1.0, 0.0, 0.0]), atol=0.01)


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_background_that_is_no_picture_is_one_sentence_and_the_stream_goes_on(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "wall.png"
    if content is not None:
        path.write_bytes(content)
    stream, frames = Stream(tiny_model(), BASE), clip(2)
    stream(frames[0])
    asked = replace(BASE, background=str(path))
    assert not stream.is_prepared(asked)
    with pytest.raises(ModelError, match=r"wall\.png") as error:
        stream.configure(asked)
    assert "\n" not in str(error.value)
    assert stream.config == BASE
    assert torch.allclose(stream(frames[1]).image, Stream(tiny_model(), BASE)(frames[1]).image, atol=1e-5)


def test_the_callers_frame_may_be_written_to_while_it_is_in_flight() -> None:
    frames = clip(3)
    stream, memory = Stream(tiny_model(), replace(BASE, steps=3)), frames[0].clone()
    stream(memory)
    pictures = {}
    for number in range(1, 5):
        memory.copy_(frames[1]) if number == 1 else memory.zero_()
        output = stream(memory, tags=[number])
        pictures |= {} if output.repeated else {output.tags[0]: output.image[0]}
    assert torch.allclose(pictures[1], Stream(tiny_model(), replace(BASE, steps=3))(frames[1]).image[0], atol=1e-4)


def test_sparse_inference_computes_nothing_of_what_is_not_seen() -> None:
    """The share of the picture that was computed, by whether the change is beside the person or on it."""
    still, beside, shirt = (figure().clone() for _ in range(3))
    beside[:, 16:48, 216:248] = 0.1
    shirt[:, 208:224, 132:148] = 0.1
    areas = {}
    for only in ("everything", "person", "background"):
        stream = Stream(tiny_model(), replace(BASE, only=only, sparse=True))
        assert stream.sparse is not None
        for frame in (still, still, still):
            stream(frame)
        for name, frame in (("still", still), ("beside", beside), ("shirt", shirt)):
            output = stream(frame)
            active = stream.sparse.active
            assert active is not None
            areas[only, name] = float(active.mean())
            if (only, name) == ("person", "beside"):  # what moved is shown, as the camera sees it
                assert torch.allclose(output.image[0, :, 30, 230], torch.tensor(0.1), atol=0.01)
        stream.close()
    assert areas["person", "still"] == areas["person", "beside"] == 0
    assert areas["background", "shirt"] < areas["everything", "shirt"]
    assert 0 < areas["background", "beside"] <= areas["everything", "beside"] < 0.2
    assert 0 < areas["person", "shirt"] < areas["everything", "shirt"] < 0.2  # there ``beside`` goes back as well


def test_what_was_not_seen_is_computed_once_it_is() -> None:
    """The room changes while it is real; then it is to be styled as well."""
    still, changed = figure(), figure().clone()
    changed[:, 16:48, 216:248] = 0.1
    stream = Stream(tiny_model(), replace(BASE, sparse=True))
    for frame in (still, still, changed, changed):
        stream(frame)
    stream.configure(replace(stream.config, only="everything"))
    settled = [stream(changed) for _ in range(3)][-1].image
    expected = Stream(tiny_model(), replace(BASE, only="everything"))(changed).image
    assert torch.allclose(settled, expected, atol=0.02)
    assert not torch.allclose(Stream(tiny_model(), stream.config)(still).image, expected, atol=0.02)
