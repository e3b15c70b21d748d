"""An encoder and a decoder that compute windows, against the whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from pipeline.backends.eager import EagerBackend
from pipeline.models import load_model
from pipeline.sparse import window_shapes as shapes_module
from pipeline.sparse.costs import Costs
from pipeline.sparse.rectangles import Rectangle
from pipeline.sparse.window_shapes import FIRST_EVERY
from pipeline.sparse.windowed_autoencoder import WindowedAutoencoder, _ramp
from tests.pipeline.backends.calls import decoded, encoded
from tests.pipeline.sparse.on_device import AllOnDevice
from tests.tiny_model import tiny_model

# Borders, corners, no multiples of a window's side, and wider than high.
SIZES = [(256, 256), (200, 320), (264, 168)]


@pytest.fixture(autouse=True)
def _always_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much it costs: what is tested are the windows, not which way is faster."""
    monkeypatch.setattr(Costs, "share", lambda _, part, whole: math.prod(part) / math.prod(whole) / 1000)


class Counting:
    """A network that tells how many pixels it was given."""

    def __init__(self, run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.run = run
        self.shapes: list[tuple[int, ...]] = []

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(x.shape))
        return self.run(x)


def half(encodes: bool) -> tuple[WindowedAutoencoder, Counting]:
    model = load_model(device="cpu", dtype="float32")
    run = Counting(partial(encoded if encodes else decoded, EagerBackend(model), model))
    return WindowedAutoencoder(run, model.autoencoder.factor, encodes=encodes), run


def given(size: tuple[int, int], seed: int = 0, rows: int = 1) -> torch.Tensor:
    """(rows, 3, H, W) with large and small forms, as pictures have them."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.rand(rows, 3, -(-size[0] // step), -(-size[1] // step), generator=generator) for step in (32, 8, 2)]
    return sum(torch.nn.functional.interpolate(part, size, mode="bilinear") for part in parts) / 3  # type: ignore[return-value]


def places(size: tuple[int, int]) -> list[tuple[Rectangle, ...]]:
    """A corner, two opposite corners, a border, the inside, a line."""
    height, width = size
    return [
        ((0, 0, 8, 8),),
        ((width - 8, 0, width, 8), (0, height - 8, 8, height)),
        ((0, 24, 8, 40),),
        ((48, 56, 72, 80),),
        ((0, 96, width, 104),),
    ]


def changed(picture: torch.Tensor, change: tuple[Rectangle, ...], seed: int = 9) -> torch.Tensor:
    other, frame = given((picture.shape[2], picture.shape[3]), seed, len(picture)), picture.clone()
    for left, top, right, bottom in change:
        frame[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return frame


def psnr(a: torch.Tensor, b: torch.Tensor, peak: float) -> float:
    return float(-10 * torch.log10((a - b).square().mean())) + 20 * math.log10(peak)


@pytest.mark.parametrize("size", SIZES)
def test_parts_give_nearly_what_the_whole_gives(size: tuple[int, int]) -> None:
    encoder, encode = half(True)
    decoder, decode = half(False)
    before = given(size)
    latents = encoder(before, [None])
    decoder(latents, [None])
    for change in places(size):
        frame = changed(before, change)
        found = encoder(frame, [change])
        assert encoder.share < 1
        expected = encode.run(frame)
        assert psnr(found, expected, float(expected.std())) > 35
        picture = decoder(expected, [change])
        assert decoder.share < 1
        assert psnr(picture, decode.run(expected), 1) > 40
        # Back to the picture before, wholly.
        encoder(before, [None])
        decoder(latents, [None])


@pytest.mark.parametrize("seed", range(3))
def test_a_window_as_narrow_as_can_be_is_nearer_than_what_was_there_before(seed: int) -> None:
    """Of untrained weights, which see the zeros around a window as well as all else.

    The change and its margins and halos of 8 pixels fill a window of 64: what lies beyond has to be seen as well.
    """
    model = tiny_model()
    encode = Counting(partial(encoded, EagerBackend(model), model))
    encoder = WindowedAutoencoder(encode, model.autoencoder.factor, encodes=True)
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(seed))
    before = picture.clone()
    before[:, :, 64:88, 64:88] = 0.9
    old = encoder(before, [None])
    found, expected = encoder(picture, [((64, 64, 88, 88),)]), encode.run(picture)
    assert encoder.share < 1
    inside = (..., slice(7, 12), slice(7, 12))
    change = (old - expected)[inside].abs().max()
    assert (found - expected)[inside].abs().max() < 0.25 * change


@pytest.mark.parametrize("encodes", [True, False])
def test_everything_changed_equals_the_whole(encodes: bool) -> None:
    part, run = half(encodes)
    pictures = [given((128, 160), seed) for seed in (0, 1)]
    inputs = pictures if encodes else [half(True)[1](picture) for picture in pictures]
    part(inputs[0], [None])
    found = part(inputs[1], [((0, 0, 160, 128),)])
    assert len(run.shapes) == 2
    assert torch.allclose(found, run.run(inputs[1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encodes", [True, False])
def test_nothing_changed_calls_nothing(encodes: bool) -> None:
    part, run = half(encodes)
    x = given((64, 64)) if encodes else torch.randn(1, 16, 8, 8)
    first = part(x, [None])
    assert torch.equal(part(torch.zeros_like(x), [()]), first)
    assert len(run.shapes) == 1
    assert part.share == 0
    part.forget()
    assert part.memory == 0
    part(x, [()])
    assert len(run.shapes) == 2, "nothing is known any more"


def test_each_pixel_is_of_its_window_or_as_it_was() -> None:
    """Against a window that is cut by hand."""
    encoder, encode = half(True)
    before = given((256, 256))
    kept = encoder(before, [None])
    frame = changed(before, ((96, 104, 112, 120),))
    found = encoder(frame, [((96, 104, 112, 120),)])
    # 24 pixels around it, in the next longer side: 64.
    expected = kept.clone()
    window = encode.run(frame[:, :, 80:144, 72:136])
    expected[:, :, 12:16, 11:15] = window[:, :, 2:6, 2:6]
    assert torch.equal(found, expected)


def test_decoded_parts_fade_in_at_their_rim_but_not_at_the_border_of_the_picture() -> None:
    decoder = WindowedAutoencoder(lambda x: torch.ones(1, 3, 8 * x.shape[2], 8 * x.shape[3]), 8, encodes=False)
    decoder(torch.zeros(1, 4, 16, 24), [None])
    decoder._output.replace(torch.zeros(1, 3, 128, 192))
    found = decoder(torch.zeros(1, 4, 16, 24), [((0, 48, 64, 64),)])[0, 0]
    assert bool((found[48:64, :64] == 1).all()), "all of what has changed"
    rim = torch.tensor([15, 13, 11, 9, 7, 5, 3, 1]) / 16
    assert torch.allclose(found[56, 64:72], rim)
    assert torch.allclose(found[64:72, 8], rim)
    assert torch.allclose(found[40:48, 0], rim.flip(0))
    assert not found[:, 72:].any()


def test_windows_have_shapes_that_there_are_networks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """First the whole, then the larger window that was wanted before, then its own."""
    monkeypatch.setattr(shapes_module, "WORTH_BUILDING", 1e-5)
    _, run = half(True)
    asked: list[tuple[int, ...]] = []
    built: set[tuple[int, ...]] = set()

    def of_its_own(x: torch.Tensor) -> torch.Tensor | None:
        asked.append(tuple(x.shape[2:]))
        return run.run(x) if asked[-1] in built else None

    encoder = WindowedAutoencoder(run, 8, True, of_its_own)
    before = given((384, 320))
    change, wide = ((64, 64, 100, 72),), ((64, 64, 190, 72),)
    frame = changed(before, change)
    encoder(before, [None])

    def shares(count: int, one: tuple[Rectangle, ...] = change) -> set[float]:
        found = set()
        for _ in range(count):
            encoder(frame, [one])
            found.add(encoder.share)
        return found

    assert shares(FIRST_EVERY, wide) == {1.0}
    assert asked == [(64, 176)], "ordered"
    built.add((64, 176))
    area = 384 * 320
    assert shares(FIRST_EVERY - 1) == {64 * 176 / area}
    shares(FIRST_EVERY)
    assert set(asked) == {(64, 176), (64, 96)}, "its own is ordered, too"
    built.add((64, 96))
    assert shares(2) == {64 * 96 / area}
    assert len(run.shapes) == 1 + FIRST_EVERY, "windows do not go through the one for all shapes"
    built.clear()
    found = encoder(frame, [change])
    view = run.run(frame[:, :, 32:96, 32:128])
    assert torch.allclose(found[:, :, 8:9, 8:12], view[:, :, 4:5, 4:8], atol=1e-6), "but where one was given up"


def test_rows_do_not_touch_each_other() -> None:
    encoder, encode = half(True)
    before = given((128, 160), rows=3)
    first = encoder(before, [None] * 3)
    frame = changed(before, ((0, 0, 160, 128),))
    found = encoder(frame, [(), ((16, 16, 24, 24),), None])
    assert [len(shape) and shape[0] for shape in encode.shapes] == [3, 1, 1]
    assert torch.equal(found[0], first[0])
    assert not torch.equal(found[1], first[1])
    assert torch.equal(found[1, :, 8:], first[1, :, 8:])
    assert torch.allclose(found[2:], encode.run(frame[2:]), atol=1e-5)


def test_what_was_given_stays_as_it_was() -> None:
    encoder, _ = half(True)
    before = given((96, 96))
    first = encoder(before, [None])
    copy = first.clone()
    second = encoder(changed(before, ((40, 40, 56, 56),)), [((40, 40, 56, 56),)])
    assert torch.equal(first, copy)
    assert not torch.equal(second, copy)


def test_another_size_is_whole_and_then_parts_again() -> None:
    encoder, encode = half(True)
    for size in ((128, 128), (128, 160)):
        encoder(given(size), [()])
        encoder(given(size), [((8, 8, 16, 16),)])
    assert [shape[2:] for shape in encode.shapes] == [(128, 128), (64, 64), (128, 160), (64, 64)]


@pytest.mark.parametrize("encodes", [True, False])
def test_nothing_is_uploaded_for_windows_at_new_places(encodes: bool) -> None:
    """What a decoded window fades in by is made where the picture is."""
    device = torch.device("meta")
    scale, output_scale = (8, 1) if encodes else (1, 8)

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 3, *(side // scale * output_scale for side in x.shape[2:]), device=device)

    part = WindowedAutoencoder(run, 8, encodes=encodes)
    x = torch.zeros(1, 3, 32 * scale, 40 * scale, device=device)
    part(x, [None])
    with AllOnDevice(device) as work:
        part(x, [((40, 48, 64, 64),)])
    assert part.share < 1
    assert work.operations


def test_masks_are_kept_but_not_for_ever() -> None:
    first = _ramp(40, True, True, 8, torch.device("cpu"), torch.float32)
    assert _ramp(40, True, True, 8, torch.device("cpu"), torch.float32) is first
    assert _ramp.cache_info().maxsize is not None
