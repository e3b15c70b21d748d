"""The folded end of a decoder is the decoder's end, at the picture's edge too."""

import copy

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import nn

from pipeline.backends.folded_decoder import FoldedTail, fold_tail
from pipeline.models import load_model


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 5, 7), (1, 3, 1, 2), (1, 3, 8, 8)])
def test_equals_the_three_layers(size, bias):
    torch.manual_seed(1)
    inner, outer = nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.Conv2d(5, 2, 3, padding=1)
    plain = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), inner, outer)
    x = torch.randn(size)
    with torch.no_grad():
        torch.testing.assert_close(FoldedTail(inner, outer)(x), plain(x), atol=1e-5, rtol=1e-5)


def test_folds_the_embedded_decoder():
    plain = load_model("embedded", dtype="float32").autoencoder.module
    assert isinstance(plain, AutoencoderTiny)
    folded = copy.deepcopy(plain)
    fold_tail(folded)
    assert isinstance(folded.decoder.layers[-1], FoldedTail)
    latents = torch.randn(1, 16, 12, 16)
    with torch.no_grad():
        torch.testing.assert_close(folded.decoder(latents), plain.decoder(latents), atol=1e-4, rtol=1e-4)


def test_leaves_a_decoder_that_ends_with_a_block():
    taesd = AutoencoderTiny(decoder_block_out_channels=(8, 8), num_decoder_blocks=(1, 1))
    layers = list(taesd.decoder.layers)
    fold_tail(taesd)
    assert list(taesd.decoder.layers) == layers


def test_leaves_other_autoencoders():
    module = nn.Linear(2, 2)
    fold_tail(module)
    assert isinstance(module, nn.Linear)
