"""Layers with weights that are laid out beforehand, against those they are made of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline.backends import packed
from pipeline.backends.packed import PackedConv, PackedLinear, pack

needs_bfloat16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="this processor has no bfloat16 for oneDNN",
)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    convs = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 6, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(*convs, nn.Flatten(2), nn.Linear(20, 7)).bfloat16()


def test_what_is_called_before_a_layer_is_called_before_the_packed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the windows of sparse inference are given what lies around them."""
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 500)
    module, x = layers().float(), torch.randn(1, 8, 8, 10)
    for layer in list(module)[:2]:
        layer.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    expected = module(x)
    pack(module)
    assert type(module[0]) is PackedConv
    with torch.inference_mode():
        assert torch.allclose(module(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 1e-5), pytest.param(torch.bfloat16, 0.02, marks=needs_bfloat16)]
)
def test_what_is_packed_gives_the_same(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, close: float) -> None:
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 500)
    plain = layers().to(dtype)
    module = copy.deepcopy(plain)
    pack(module)
    assert [type(one) for one in module] == [PackedConv, PackedConv, nn.Flatten, nn.Linear], "the last one is small"
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 100)
    pack(module)
    assert type(module[3]) is PackedLinear
    for size in ((2, 8, 8, 10), (1, 8, 8, 10)):
        x = torch.randn(size).to(dtype)
        with torch.inference_mode():
            assert torch.allclose(module(x), plain(x), atol=close)


def test_what_is_taken_or_of_another_number_format_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 0)
    module = layers()
    module[0].__dict__["forward"] = lambda x: x
    pack(module)
    assert type(module[0]) is nn.Conv2d
    module = layers().half()
    pack(module)
    assert type(module[1]) is nn.Conv2d


@needs_bfloat16
def test_layers_stay_where_this_pytorch_cannot_pack_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed, "LEAST_WEIGHTS", 0)
    monkeypatch.setattr(packed, "_NEEDED", (*packed._NEEDED, "mkldnn::not_there"))
    module = layers()
    pack(module)
    assert type(module[0]) is nn.Conv2d
    assert "mkldnn::not_there" in caplog.text
