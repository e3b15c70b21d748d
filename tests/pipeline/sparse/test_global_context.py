"""What the UNet's windows are told of the whole."""

from __future__ import annotations

import torch

from pipeline.sparse.global_context import HIDDEN, GlobalContext
from pipeline.sparse.rectangles import Window
from tests.pipeline.sparse.on_device import AllOnDevice

SIZE = (6, 8)
WINDOW = Window((2, 1, 5, 3), (0, 0, 6, 4))


def recorded(rows: int, device: str = "cpu") -> list[torch.Tensor]:
    """The affine of norms of 5 channels, keys and values of a self-attention of two heads."""
    keys = torch.zeros(rows, 2, SIZE[0] * SIZE[1], 3, device=device)
    return [torch.zeros(rows, 10, device=device), keys, keys + 1]


def test_tokens_are_seen_once_those_of_the_window_inside_it_and_those_of_the_whole_elsewhere() -> None:
    _, _, _, bias = GlobalContext(recorded(1), SIZE).given([0], [WINDOW])
    whole, part = bias.flatten().split([48, 24])
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[1:3, 2:5] = True
    assert torch.equal(whole.view(SIZE) == HIDDEN, inside)
    assert torch.equal(part.view(4, 6) == 0, inside[:4, :6])
    assert set(bias.flatten().tolist()) == {0, HIDDEN}


def test_the_same_windows_are_given_the_very_same_tensors() -> None:
    context = GlobalContext(recorded(2), SIZE)
    first, second = (context.given([0, 1], [WINDOW, WINDOW]) for _ in (0, 1))
    assert all(one is other for one, other in zip(first, second, strict=True))
    for left in range(100):
        context.given([0], [Window((left % 3, left % 5, 6, 6), (0, 0, 8, 6))])
    assert len(context._biases) <= 8, "few are kept"


def test_what_a_window_writes_is_taken_over_for_its_row() -> None:
    context = GlobalContext(recorded(2), SIZE)
    keys = torch.arange(24.0).view(1, 24, 1).expand(2, 24, 3)
    context.add(1, [keys, keys], WINDOW)
    first, second = context.given([0], [WINDOW])[1][0, 0, :, 0], context.given([1], [WINDOW])[1][0, 0, :, 0]
    assert not first.any()
    assert torch.equal(second.view(SIZE)[1:3, 2:5], torch.arange(24.0).view(4, 6)[1:3, 2:5])
    assert second.count_nonzero() == 6


def test_nothing_is_uploaded_for_windows_at_new_places() -> None:
    device = torch.device("meta")
    context = GlobalContext(recorded(2, "meta"), SIZE)
    with AllOnDevice(device) as work:
        context.given([0, 1], [WINDOW, WINDOW])
        context.add(0, [torch.zeros(2, 24, 3, device=device)] * 2, WINDOW)
    assert work.operations
