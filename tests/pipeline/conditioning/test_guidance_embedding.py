"""Models that were distilled to be told their guidance are told it, as diffusers tells them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.conditioning.guidance_embedding import scale_embedding
from tests.tiny_model import tiny_model, write_tiny_model

BASE = StreamConfig(prompt="a cat", steps=2, guidance="none", guidance_scale=8.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_tiny_model(tmp_path_factory.mktemp("model") / "lcm")
    plain: Any = UNet2DConditionModel.from_pretrained(folder / "unet")
    torch.manual_seed(1)
    told: Any = UNet2DConditionModel.from_config({**plain.config, "time_cond_proj_dim": 32})
    told.load_state_dict(plain.state_dict(), strict=False)
    told.save_pretrained(folder / "unet")
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.mark.parametrize("width", [32, 33, 256])
@pytest.mark.parametrize("scale", [1.0, 4.5, 8.0])
def test_the_embedding_is_that_of_diffusers(scale: float, width: int) -> None:
    theirs = StableDiffusionPipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), width)  # type: ignore[arg-type]
    torch.testing.assert_close(scale_embedding(scale, width), theirs)


def test_the_unet_is_told(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    forward = UNet2DConditionModel.forward

    def noted(self: UNet2DConditionModel, *args: torch.Tensor, **named: torch.Tensor) -> object:
        told.append(named["timestep_cond"])
        return forward(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(UNet2DConditionModel, "forward", noted)
    frame = torch.rand(3, 32, 32)
    stream = Stream(model, BASE)
    stream(frame)
    stream(frame)
    torch.testing.assert_close(told[-1], scale_embedding(8.0, 32).expand(2, -1))
    stream.configure(replace(BASE, guidance_scale=3.0))
    stream(frame)
    torch.testing.assert_close(told[-1], scale_embedding(3.0, 32).expand(2, -1))


def test_another_scale_is_another_picture_for_such_a_model_alone(model: Model) -> None:
    frame = torch.rand(3, 32, 32)
    for one, same in ((model, False), (tiny_model(), True)):
        pictures = [Stream(one, replace(BASE, guidance_scale=scale))(frame).image for scale in (1.0, 8.0)]
        assert torch.equal(*pictures) == same
