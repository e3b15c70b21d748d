"""Models made for inpainting are shown the mask that the setting ``only`` asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline import GUIDANCE_KINDS, Stream, StreamConfig
from tests.pipeline.masking.test_stream import CountingBackend, clip, shown
from tests.tiny_model import tiny_model

PARTS = ("person", "background", "everything")
BASE = StreamConfig(
    prompt="a watercolour", negative_prompt="a photo", strength=0.7, only="person", mask_smoothing=0.0, guidance="full",
    guidance_scale=1.5,
)  # fmt: skip


def painted(frame: torch.Tensor, only: str) -> torch.Tensor:
    """(1, 1, H, W) which share of each pixel is painted anew, by a stream of another model that cuts the person out."""
    alpha = Stream(tiny_model(), replace(BASE, background="none"))(frame).alpha
    assert alpha is not None
    return {"person": alpha, "background": 1 - alpha, "everything": torch.ones_like(alpha)}[only]


@pytest.mark.parametrize("guidance", GUIDANCE_KINDS)
@pytest.mark.parametrize(("steps", "buffer"), [(1, 3), (4, 1), (4, 3)])
def test_each_picture_is_made_under_its_own_mask(steps: int, buffer: int, guidance: str) -> None:
    """An image scale is for models that see the whole input: here it changes nothing."""
    model, frames = tiny_model(sees_mask=True), clip(6)
    asked = replace(BASE, steps=steps, guidance=guidance)
    pictures = shown(Stream(model, replace(asked, image_guidance=1.5)), frames, buffer)
    for tag, frame in enumerate(frames):
        assert torch.allclose(pictures[tag], Stream(model, asked)(frame).image, atol=1e-4), tag


def test_another_part_is_painted_from_the_next_frame_on() -> None:
    """What is in flight keeps the mask that it came with."""
    frames = clip(5)
    stream = Stream(tiny_model(sees_mask=True), replace(BASE, steps=2))
    stream(frames[0])
    before = frames[0], "person"
    for newest in zip(frames[1:], ("background", "everything", "person", "everything"), strict=True):
        stream.configure(replace(stream.config, only=newest[1]))
        stream(newest[0])
        assert stream._batch is not None
        masks = stream._batch._slots["mask"]
        for position, (frame, only) in ((1, newest), (2, before)):  # one step taken, and two
            expected = F.interpolate((painted(frame, only) >= 0.5).float(), masks.shape[3:])
            assert torch.equal(masks[position], expected)
        before = newest


def test_a_second_picture_is_encoded_only_where_a_part_is_painted() -> None:
    backend = CountingBackend(tiny_model(sees_mask=True))
    stream, calls = Stream(backend._model, BASE, backend), []
    for only in ("person", "everything"):
        stream.configure(replace(BASE, only=only))
        backend.calls.clear()
        for frame in clip(3):
            stream(frame)
        calls.append(backend.calls["encoder"])
    assert calls == [6, 4]


def test_pictures_of_words_alone_are_painted_whole() -> None:
    asked = replace(BASE, text_to_image=True, steps=2, seed_travel="hold")
    streams = [Stream(tiny_model(sees_mask=True), asked) for _ in range(2)]
    pictures = [stream(frame).image for stream, frame in zip(streams, clip(2), strict=True)]
    assert torch.equal(*pictures)
    assert streams[0]._batch is not None
    assert bool((streams[0]._batch._slots["mask"] == 1).all())


@pytest.mark.parametrize("only", PARTS)
def test_sparse_inference_gives_the_pictures_of_the_whole(only: str) -> None:
    """A frame that changed anywhere is another under its mask everywhere, and one that did not is the same."""
    model = tiny_model(sees_mask=True)
    frames = torch.cat([clip(3), clip(1).expand(4, -1, -1, -1), clip(6)[-2:]])
    asked = replace(BASE, steps=3, only=only)
    sparse, dense = Stream(model, replace(asked, sparse=True)), Stream(model, asked)
    for frame in frames:
        assert torch.allclose(sparse(frame).image, dense(frame).image, atol=2e-3)
