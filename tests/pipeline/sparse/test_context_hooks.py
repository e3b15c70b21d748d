"""The memory that the norms of a UNet are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.sparse import context_hooks
from pipeline.sparse.context_hooks import laid_out_for_norm


@pytest.mark.parametrize("device", ["cuda", "xpu", "mps"])
def test_native_group_norm_is_given_contiguous_memory_but_on_a_cpu(device: str) -> None:
    """On CUDA it raises where it is given other: that has ended streams."""
    laid_out = torch.rand(2, 8, 6, 4).to(memory_format=torch.channels_last)
    found = laid_out_for_norm(laid_out, device)
    assert found.is_contiguous()
    assert torch.equal(found, laid_out)
    contiguous = torch.rand(2, 8, 6, 4)
    assert laid_out_for_norm(contiguous, device) is contiguous
    assert laid_out_for_norm(laid_out, "cpu") is laid_out, "a copy each way would be slower"


def test_the_norm_asks_for_that_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tensor were on CUDA: the same result, from contiguous memory."""
    norm = nn.GroupNorm(4, 8)
    x = torch.rand(2, 8, 6, 4).to(memory_format=torch.channels_last)
    expected = context_hooks._normed(norm, x)
    asked: list[torch.Tensor] = []
    native = torch.native_group_norm

    def particular(given: torch.Tensor, *arguments: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        asked.append(given)
        return native(given, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(context_hooks, "laid_out_for_norm", lambda tensor, _: laid_out_for_norm(tensor, "cuda"))
    monkeypatch.setattr(torch, "native_group_norm", particular)
    found = context_hooks._normed(norm, x)
    assert asked[0].is_contiguous()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
