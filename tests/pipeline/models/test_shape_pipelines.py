"""T2I-Adapters and ControlNets in the stream give what diffusers' pipelines give, on the same noise."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.diffusion.text_to_image import SeedPath, starting_noise
from tests.checkpoints import shelved
from tests.controls import new_adapter, new_controlnet, write_control
from tests.tiny_model import unet_of

diffusers: Any = importlib.import_module("diffusers")  # it exports its pipelines in a way that type checkers miss

CLOSE = 1e-4
# Weights are random: at 5, a change of the input by a millionth of it changes four steps of diffusers' own by 8e-3.
SCALE = 1.5
SIDE = 64
_MODELS: dict[str, Model] = {}


def model_of(kind: str, shelf: Path) -> Model:
    if kind not in _MODELS:
        _MODELS[kind] = load_model(str(shelved(kind, shelf)), device="cpu", dtype="float32")
    return _MODELS[kind]


def pictures(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def pipeline_of(kind: str, name: str, shelf: Path, **parts: Any) -> Any:
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
    prediction = {"prediction_type": "v_prediction"} if kind == "sd21" else {}
    # The offset is nothing to trailing timesteps; some pipelines warn of any other.
    parts["scheduler"] = diffusers.DDIMScheduler(**schedule, **prediction, timestep_spacing="trailing", steps_offset=1)
    pipeline = getattr(diffusers, name).from_pretrained(
        shelved(kind, shelf), **parts, **({} if "xl" in kind else {"safety_checker": None}), local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents(stream: Stream, clip: torch.Tensor, hints: dict[str, torch.Tensor], steps: int) -> list[torch.Tensor]:
    """The finished latents of all frames but the first, which have gone through the slots."""
    found = []
    for number in range(len(clip)):
        stream(clip[number], hints={name: hint[number : number + 1] for name, hint in hints.items()})
        batch = stream._batch
        assert batch is not None
        if number >= steps:
            found.append(batch._slots["x"][-1].clone())
    return found


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """To ``CLOSE`` of their spread: one step from noise alone makes it 10 and more, and float32's rounding with it."""
    torch.testing.assert_close(ours, theirs, atol=CLOSE * max(1.0, float(theirs.std())), rtol=0)


def config(steps: int, guidance: str, **settings: Any) -> StreamConfig:
    scale = SCALE if guidance == "full" else 1.0
    return StreamConfig(
        prompt="a cat", steps=steps, solver="ddim", spacing="trailing", guidance=guidance, guidance_scale=scale,
        seed=5, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "light"])
@torch.inference_mode()
def test_an_adapter_equals_diffusers_pipeline(kind: str, steps: int, guidance: str, shelf: Path) -> None:
    light, kind = kind == "light", "sd15" if kind == "light" else kind
    model, xl = model_of(kind, shelf), kind == "sdxl"
    form = "light_adapter" if light else "full_adapter_xl" if xl else "full_adapter"
    adapter = new_adapter(unet_of(model), form, channels=1 if kind == "sd15" and not light else 3)
    folder = write_control(shelf / f"pipelines-{kind}-{form}", adapter)
    name = "StableDiffusionXLAdapterPipeline" if xl else "StableDiffusionAdapterPipeline"
    pipeline = pipeline_of(kind, name, shelf, adapter=adapter)
    clip, hints = pictures(steps + 2, 3), pictures(steps + 2, 4).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    ours = config(
        steps, guidance, text_to_image=True, seed_travel="hold", keep_shape=f"canny:0.7 @ {folder}", shape_strength=1.25
    )
    found = latents(Stream(model, ours), clip, {"canny": hints}, steps)
    noise = starting_noise(ours, *SeedPath().step(ours), (4, SIDE // 8, SIDE // 8))
    for number, latent in enumerate(found):
        hint = hints[number + 1 : number + 2]
        expected = pipeline(
            "a cat",
            image=[hint[:, : adapter.config["in_channels"]]],
            adapter_conditioning_scale=0.7 * 1.25,
            num_inference_steps=steps,
            guidance_scale=ours.guidance_scale,
            latents=noise.clone(),
            height=SIDE,
            width=SIDE,
            output_type="latent",
        ).images
        same(latent, expected)
    assert not torch.allclose(found[0], found[1], atol=0.01), "the hint matters"


@torch.inference_mode()
def test_several_adapters_equal_diffusers_pipeline(shelf: Path) -> None:
    model = model_of("sd15", shelf)
    adapters = [new_adapter(unet_of(model), seed=seed) for seed in (1, 2)]
    folders = [write_control(shelf / f"several-{n}", adapter) for n, adapter in enumerate(adapters)]
    pipeline = pipeline_of("sd15", "StableDiffusionAdapterPipeline", shelf, adapter=diffusers.MultiAdapter(adapters))
    clip, hints = pictures(3, 3), {"canny": pictures(3, 4), "sketch": pictures(3, 5)}
    kept = f"canny:0.7 @ {folders[0]}; sketch:0.4 @ {folders[1]}"
    ours = config(2, "full", text_to_image=True, seed_travel="hold", keep_shape=kept)
    (found,) = latents(Stream(model, ours), clip, hints, 2)
    expected = pipeline(
        "a cat",
        image=[hint[1:2] for hint in hints.values()],
        adapter_conditioning_scale=[0.7, 0.4],
        num_inference_steps=2,
        guidance_scale=ours.guidance_scale,
        latents=starting_noise(ours, *SeedPath().step(ours), (4, SIDE // 8, SIDE // 8)),
        height=SIDE,
        width=SIDE,
        output_type="latent",
    ).images
    same(found, expected)


@pytest.mark.parametrize("guidance", ["none", "full"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(("count", "kind"), [(1, "sd15"), (1, "sd21"), (1, "sdxl"), (2, "sd15")])
@torch.inference_mode()
def test_controlnets_equal_diffusers_pipeline(count: int, kind: str, steps: int, guidance: str, shelf: Path) -> None:
    model = model_of(kind, shelf)
    controlnets = [new_controlnet(unet_of(model), seed=1 + number) for number in range(count)]
    folders = [write_control(shelf / f"pipelines-{kind}-{n}", one) for n, one in enumerate(controlnets)]
    name = f"StableDiffusion{'XL' if kind == 'sdxl' else ''}ControlNetImg2ImgPipeline"
    pipeline = pipeline_of(kind, name, shelf, controlnet=controlnets if count > 1 else controlnets[0])
    clip = pictures(steps + 1, 3)
    hints = {hint: pictures(steps + 1, 4 + n) for n, hint in enumerate(("canny", "sketch")[:count])}
    weights = [0.7, 0.4][:count]
    kept = "; ".join(f"{h}:{w} @ {folder}" for h, w, folder in zip(hints, weights, folders, strict=True))
    pipeline.scheduler.set_timesteps(2 * steps)
    by_hand = ",".join(str(int(one)) for one in pipeline.scheduler.timesteps[steps:])
    ours = config(steps, guidance, timesteps=by_hand, keep_shape=kept)
    found = latents(Stream(model, ours), clip, hints, steps)
    for number, latent in enumerate(found):
        here = slice(number + 1, number + 2)
        expected = pipeline(
            "a cat",
            image=model.autoencoder.encode(clip[here]),
            control_image=[hint[here] for hint in hints.values()] if count > 1 else hints["canny"][here],
            controlnet_conditioning_scale=weights if count > 1 else weights[0],
            strength=0.5,
            num_inference_steps=2 * steps,
            guidance_scale=ours.guidance_scale,
            generator=torch.Generator().manual_seed(5),
            height=SIDE,
            width=SIDE,
            output_type="latent",
        ).images
        same(latent, expected)
