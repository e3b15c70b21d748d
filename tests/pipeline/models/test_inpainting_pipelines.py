"""Inpainting models in the stream give what diffusers' pipelines give, on the same noise and under the same masks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from pipeline import Model, Stream, load_model
from tests.checkpoints import shelved
from tests.pipeline.masking.test_inpainting import PARTS, painted
from tests.pipeline.masking.test_stream import SIDE, clip
from tests.pipeline.models.test_shape_pipelines import config, latents, pipeline_of, same
from tests.tiny_model import make_prompts_matter, unet_of


@cache
def calm_model(kind: str, shelf: Path) -> Model:
    """A model whose prompts matter less: else it makes a thousand times of the rounding of a flat picture."""
    model = load_model(str(shelved(kind, shelf)), device="cpu", dtype="float32")
    make_prompts_matter(unet_of(model), 1 / 6)
    return model


@pytest.mark.parametrize("only", PARTS)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["inpainting", "inpainting-xl"])
@torch.inference_mode()
def test_inpainting_equals_diffusers_pipeline(
    kind: str, steps: int, only: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame under a mask of its own, which goes with it through the slots."""
    # diffusers draws a sample of a picture's latents; a stream takes the most likely ones.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_, **__: self.mode())
    name = f"StableDiffusion{'XL' if kind.endswith('xl') else ''}InpaintPipeline"
    model = calm_model(kind, shelf)
    pipeline = pipeline_of(kind, name, shelf, vae=model.autoencoder.module, unet=unet_of(model))
    pipeline.scheduler.set_timesteps(2 * steps)
    by_hand = ",".join(str(int(one)) for one in pipeline.scheduler.timesteps[steps:])
    ours = config(steps, "full", timesteps=by_hand, only=only, mask_smoothing=0.0)
    frames = clip(steps + 2)
    found = latents(Stream(model, ours), frames, {}, steps)
    for number, latent in enumerate(found):
        frame = frames[number + 1]
        expected = pipeline(
            "a cat",
            image=frame[None].contiguous(memory_format=torch.channels_last),
            mask_image=painted(frame, only),
            strength=0.5,
            num_inference_steps=2 * steps,
            guidance_scale=ours.guidance_scale,
            generator=torch.Generator().manual_seed(5),
            height=SIDE,
            width=SIDE,
            output_type="latent",
        ).images
        same(latent, expected)
