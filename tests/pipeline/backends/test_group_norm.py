"""The group norm of our own equals PyTorch's: on a CPU through Triton's interpreter, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

CHECK = """
import torch
from torch.nn.functional import group_norm, silu
from pipeline.backends.cuda.fused import FusedGroupNorm, fuse
from pipeline.backends.cuda.group_norm import group_norm as own
from pipeline.conditioning.attention import entry_name, project
from pipeline.models.networks import DenoiserNetwork
from tests.tiny_model import tiny_model

shapes = ((1, 320, 8, 8, 32), (2, 640, 5, 8, 32), (2, 48, 33, 7, 8), (1, 2560, 2, 2, 32))
for rows, channels, height, width, groups in shapes:
    x = (3 + torch.randn(rows, channels, height, width)).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(channels), torch.randn(channels)
    expected = group_norm(x, groups, weight, bias, 1e-5)
    torch.testing.assert_close(own(x, weight, bias, groups, 1e-5, False), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own(x, weight, bias, groups, 1e-5, True), silu(expected), rtol=1e-4, atol=1e-4)

far = 1e4 + torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
ones = torch.ones(64)
exact = group_norm(far.double(), 32, ones.double(), None, 1e-5).float()
torch.testing.assert_close(own(far, ones, torch.zeros(64), 32, 1e-5, False), exact, rtol=1e-2, atol=1e-2)

model = tiny_model()
plain, fused = (DenoiserNetwork(model).module().eval() for _ in range(2))
hooked = plain.denoiser.mid_block.resnets[0].norm1
fuse(fused)
assert not any(isinstance(one, torch.nn.GroupNorm) for one in fused.modules())
assert any(one.weight is hooked.weight for one in fused.modules() if isinstance(one, FusedGroupNorm))
tokens = torch.randn(2, 77, model.unet.config["cross_attention_dim"])
inputs = {"rows": torch.randn(2, model.unet.config["in_channels"], 8, 8), "timesteps": torch.tensor([3.0, 500.0])}
found = project(model.unet, tokens)
for number in range(len(found) // 2):
    inputs[entry_name("keys", number)], inputs[entry_name("values", number)] = found[2 * number : 2 * number + 2]
with torch.inference_mode():
    expected, given = plain(tokens=tokens, **inputs)["output"], fused(tokens=tokens, **inputs)["output"]
torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)

heard = DenoiserNetwork(model).module().eval()
norm = heard.denoiser.mid_block.resnets[0].norm1
norm.register_forward_hook(lambda *_: None)
fuse(heard)
assert heard.denoiser.mid_block.resnets[0].norm1 is norm, "whoever listens to a layer still finds it"
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton here")
def test_it_equals_pytorchs_and_takes_its_place_in_a_network() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHECK]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
