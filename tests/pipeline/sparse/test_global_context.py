"""What the UNet's windows are told of the whole."""

from __future__ import annotations

import pytest
import torch

from pipeline.sparse.global_context import HIDDEN, GlobalContext
from pipeline.sparse.rectangles import Window
from tests.pipeline.sparse.on_device import AllOnDevice

SIZE = (6, 8)
WINDOW = Window((3, 1, 5, 3), (2, 0, 6, 4))


def recorded(rows: int, device: str = "cpu", *, surrounded: bool = True) -> dict[str, torch.Tensor]:
    """Of norms of 5 channels, a self-attention of two heads, and convolutions of 4 channels at two levels."""
    levels = (0, 1) if surrounded else ()
    keys = torch.zeros(rows, 2, SIZE[0] * SIZE[1], 3, device=device)
    inputs = {f"inputs_{level}": torch.ones(rows, 4, 6 >> level, 8 >> level, device=device) for level in levels}
    return {"affine": torch.zeros(rows, 10, device=device), "keys_0": keys, "values_0": keys + 1, **inputs}


@pytest.mark.parametrize("surrounded", [False, True])
def test_tokens_are_seen_once_those_of_the_window_where_it_is_right_and_those_of_the_whole_elsewhere(
    surrounded: bool,
) -> None:
    """A window is right in what it writes; surrounded, all over."""
    context = GlobalContext(recorded(1, surrounded=surrounded), SIZE)
    seen = context.given([0], [WINDOW])["seen_0"]
    whole, part = seen.flatten().split([48, 16])
    right = torch.zeros(SIZE, dtype=torch.bool)
    left, top, end, bottom = WINDOW.reads if surrounded else WINDOW.writes
    right[top:bottom, left:end] = True
    assert torch.equal(whole.view(SIZE) == HIDDEN, right)
    assert torch.equal(part.view(4, 4) == 0, right[:4, 2:6])
    assert set(seen.flatten().tolist()) <= {0, HIDDEN}
    assert bool(context.borders([0], [WINDOW])) == surrounded


def test_the_same_windows_are_given_the_very_same_tensors() -> None:
    context = GlobalContext(recorded(2), SIZE)
    first, second = (context.given([0, 1], [WINDOW, WINDOW]) for _ in (0, 1))
    assert all(first[name] is second[name] for name in first)
    for left in range(100):
        context.given([0], [Window((left % 3, left % 5, 6, 6), (0, 0, 8, 6))])
    assert len(context._seen) <= 8, "few are kept"


def test_a_window_is_given_what_lies_around_it_and_zeros_beyond_the_picture() -> None:
    borders = GlobalContext(recorded(1), SIZE).borders([0], [WINDOW])
    expected = torch.ones(6, 6)
    expected[1:5, 1:5] = 0  # the window itself
    expected[0] = 0  # above the picture
    assert torch.equal(borders["border_0"], expected.expand(1, 4, 6, 6))
    assert borders["border_1"].shape == (1, 4, 4, 4)


def test_what_a_window_computes_is_taken_over_for_its_row() -> None:
    context = GlobalContext(recorded(2), SIZE)
    keys = torch.arange(16.0).view(1, 16, 1).expand(2, 16, 3)
    inputs = {f"inputs_{level}": torch.full((4, 4 >> level, 4 >> level), 7.0) for level in (0, 1)}
    context.add(1, {"keys_0": keys, "values_0": keys, **inputs}, WINDOW)
    first, second = (context.given([row], [WINDOW])["keys_0"][0, 0, :, 0] for row in (0, 1))
    assert not first.any()
    assert torch.equal(second.view(SIZE)[:4, 2:6], torch.arange(16.0).view(4, 4))
    assert second.count_nonzero() == 15
    beside = Window((0, 0, 2, 4), (0, 0, 2, 4))
    assert torch.equal(context.borders([1], [beside])["border_0"][0, 0, 1:5, 3], torch.full((4,), 7.0))
    assert torch.equal(context.borders([0], [beside])["border_0"][0, 0, 1:5, 3], torch.ones(4))


def test_of_several_windows_of_one_row_each_is_given_its_own() -> None:
    context = GlobalContext(recorded(2), SIZE)
    windows = [WINDOW, *(Window(place, place) for place in ((0, 0, 4, 4), (4, 2, 8, 6)))]
    given, borders = context.given([1, 1, 0], windows), context.borders([1, 1, 0], windows)
    assert given["keys_0"].shape[0] == borders["border_0"].shape[0] == 3
    for number, (row, window) in enumerate(zip([1, 1, 0], windows, strict=True)):
        alone = context.given([row], [window]) | context.borders([row], [window])
        for name, one in (given | borders).items():
            assert torch.equal(one[number : number + 1], alone[name])


def test_nothing_is_uploaded_for_windows_at_new_places() -> None:
    device = torch.device("meta")
    context = GlobalContext(recorded(2, "meta"), SIZE)
    with AllOnDevice(device) as work:
        context.given([0, 1], [WINDOW, WINDOW])
        context.borders([0, 1], [WINDOW, WINDOW])
        part = {f"inputs_{level}": torch.zeros(4, 4 >> level, 4 >> level, device=device) for level in (0, 1)}
        part |= {name: torch.zeros(2, 16, 3, device=device) for name in ("keys_0", "values_0")}
        context.add(0, part, WINDOW)
    assert work.operations
