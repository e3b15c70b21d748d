"""Stable Diffusion 1, 2, Turbo, XL and InstructPix2Pix: folders and single files, recognised and streamed."""

from __future__ import annotations

import importlib
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline import Model, ModelError, Stream, StreamConfig, load_model
from pipeline.backends.eager import EagerBackend
from pipeline.denoiser import Denoiser
from pipeline.diffusion.guidance import combine_full, combine_image
from pipeline.diffusion.noise import seeded_noise
from pipeline.models.families import (
    PIX2PIX,
    SD1,
    SD2,
    SDXL,
    Character,
    Hints,
    character_of,
    character_of_name,
    defaults_for,
    family_of,
    tells_few_steps,
)
from tests.checkpoints import KINDS, shelved, write_original
from tests.tiny_model import write_json, write_tiny_model

diffusers: Any = importlib.import_module("diffusers")  # it exports its pipelines in a way that type checkers miss

FAMILIES = {"sd15": SD1, "sd21": SD2, "turbo": SD2, "sdxl": SDXL, "ssd": SDXL, "pix2pix": PIX2PIX}
FAMILIES |= {"inpainting": SD1, "inpainting-xl": SDXL}


@cache
def model_of(kind: str, shelf: Path) -> Model:
    return settled(load_model(str(shelved(kind, shelf)), device="cpu", dtype="float32"))


def frame() -> torch.Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3))


def settle(*modules: nn.Module) -> None:
    """Lay weights where the allocator lays them: a file's mapped ones lie anywhere, which moves some CPUs' rounding."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.clone()


def settled(model: Model) -> Model:
    settle(model.unet, model.autoencoder.module, *(encoder.module for encoder in model.prompts.encoders))
    return model


def picture(model: Model, **settings: object) -> torch.Tensor:
    config = StreamConfig(**{**model.defaults, "prompt": "a cat", "steps": 2, **settings})
    return Stream(model, config)(frame()).image


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_recognised_and_streams(kind: str, shelf: Path) -> None:
    model = model_of(kind, shelf)
    assert model.family is FAMILIES[kind]
    assert (model.sees_input, model.sees_mask) == (kind == "pix2pix", kind.startswith("inpainting"))
    assert model.few_step == (kind == "turbo")
    assert model.schedule.prediction_type == ("v_prediction" if kind == "sd21" else "epsilon")
    assert model.defaults.get("solver") == ("lcm" if kind == "turbo" else "dpmpp-2m")
    assert 8 <= model.defaults.get("steps", 0) <= 12 or model.few_step
    assert model.defaults.get("spacing") == (None if model.few_step else "logsnr")
    assert "full autoencoder is used" in model.notes[0]
    image = picture(model)
    assert bool(image.isfinite().all())
    assert not torch.allclose(image, picture(model, prompt="a dog"), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_gives_the_same_pictures_as_the_folder(kind: str, shelf: Path) -> None:
    folder = shelved(kind, shelf)
    says = {"modelspec.prediction_type": "v"} if kind == "sd21" else {}
    path = write_original(folder, shelf / "files" / f"{kind}-model.safetensors", kind, says)
    model = settled(load_model(str(path), device="cpu", dtype="float32"))
    assert model.family is FAMILIES[kind]
    assert model.sees_mask == kind.startswith("inpainting")
    assert model.few_step == (kind == "turbo")
    torch.testing.assert_close(picture(model), picture(model_of(kind, shelf)), atol=1e-5, rtol=0)


def diffusers_parts(folder: Path, kinds: dict[str, Any]) -> dict[str, Any]:
    return {part: kind.from_pretrained(folder / part, local_files_only=True) for part, kind in kinds.items()}


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m"])
@torch.inference_mode()
def test_instruct_pix2pix_equals_diffusers_pipeline(solver: str, shelf: Path) -> None:
    """The same noise, prompt, picture, and both guidances: the same picture, from noise to pixels."""
    folder = shelved("pix2pix", shelf)
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    parts = diffusers_parts(folder, {**kinds, "tokenizer": CLIPTokenizer})
    settle(parts["unet"], parts["vae"], parts["text_encoder"])
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = {"ddim": diffusers.DDIMScheduler, "dpmpp-2m": diffusers.DPMSolverMultistepScheduler}[solver]
    clipping = {"clip_sample": False} if solver == "ddim" else {}
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        **parts,
        scheduler=scheduler(**schedule, timestep_spacing="trailing", **clipping),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    guidance = {"guidance_scale": 6.0, "image_guidance_scale": 1.7}
    expected = pipeline(
        "make it snow",
        image=frame()[None],
        num_inference_steps=4,
        latents=seeded_noise(5, 1, (4, 4, 4)),
        output_type="pt",
        **guidance,
    ).images
    ours = picture(
        model_of("pix2pix", shelf),
        prompt="make it snow",
        steps=4,
        seed=5,
        solver=solver,
        spacing="trailing",
        guidance_scale=6.0,
        image_guidance=1.7,
    )
    # The decoder of these tests has 20 times a real one's contrast, and float32's rounding with it (2.5e-3 seen).
    torch.testing.assert_close(ours, expected, atol=5e-3, rtol=0)
    assert float((ours - expected).abs().mean()) < 1e-4


@torch.inference_mode()
def test_sdxl_is_told_what_diffusers_pipeline_tells_it(shelf: Path) -> None:
    """Both text encoders' embeddings, the pooled one, an empty negative prompt of zeros, and the picture's size."""
    model = model_of("sdxl", shelf)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(shelved("sdxl", shelf), local_files_only=True)
    tokens, no_tokens, pooled, no_pooled = pipeline.encode_prompt("a cat", device="cpu")
    ours, negative = model.prompts.embed("a cat"), model.prompts.embed_negative("")
    assert ours.pooled is not None
    assert negative.pooled is not None
    for mine, theirs in (
        (ours.tokens, tokens),
        (ours.pooled, pooled),
        (negative.tokens, no_tokens),
        (negative.pooled, no_pooled),
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    sizes = pipeline._get_add_time_ids((48, 32), (0, 0), (48, 32), torch.float32, model.prompts.encoders[1].width)
    rows = torch.randn(2, 4, 6, 4)
    expected = pipeline.unet(
        rows,
        torch.tensor([500, 500]),
        torch.cat([tokens, no_tokens]),
        added_cond_kwargs={"text_embeds": torch.cat([pooled, no_pooled]), "time_ids": sizes.expand(2, -1)},
    ).sample
    denoiser = Denoiser(model, EagerBackend(model))
    denoiser.set_prompts("a cat", "")
    got = denoiser(rows, torch.tensor([500, 500]), ((0, 1), (1, 1)))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_guidance_by_image_at_one_is_plain_guidance(shelf: Path) -> None:
    model = model_of("pix2pix", shelf)
    assert not torch.allclose(picture(model, image_guidance=1.0), picture(model, image_guidance=1.5), atol=1e-3)
    outputs = torch.randn(3, 2, 1, 4, 4, 4)
    torch.testing.assert_close(combine_image(outputs, 3.0, 1.0), combine_full(outputs[0], outputs[1], 3.0))


LCM: Hints = {"solver": "lcm", "steps": 4}
TCD: Hints = {"solver": "tcd", "steps": 4}
ONE: Hints = {"solver": "lcm", "steps": 1}


@pytest.mark.parametrize(
    ("name", "scheduler", "hints", "grid"),
    [
        ("stabilityai/sd-turbo", {}, ONE, None),
        ("SDXL-Turbo", {}, ONE, None),
        ("dreamshaperXL_v2TurboDpmppSDE", {}, ONE, None),
        ("IDKiro/sdxs-512-0.9", {}, ONE, None),
        ("SDXS", {}, ONE, None),
        ("flash-sd", {}, ONE, None),
        ("jasperai/flash-sdxl", {}, ONE, None),
        ("dmd2", {}, ONE, None),
        ("dmd2_sdxl_4step_lora", {}, LCM, None),
        ("ByteDance/SDXL-Lightning", {}, {"solver": "euler", "steps": 4}, 4),
        ("sdxl_lightning_8step_unet", {}, {"solver": "euler", "steps": 8}, 8),
        ("realvisxlV40_v40LightningBakedvae", {}, {"solver": "euler", "steps": 4}, 4),
        ("hyper_sd", {}, TCD, 4),
        ("epicrealism_hyper", {}, TCD, 4),
        ("Hyper-SD15-4steps-lora", {}, TCD, 4),
        ("Hyper-SDXL-1step-lora", {}, {"solver": "tcd", "steps": 1}, 1),
        ("Hyper-SD15-8-steps-CFG-lora", {}, {"solver": "tcd", "steps": 8}, 8),
        ("tcd-sdxl-lora", {}, TCD, 50),
        ("lcm-lora", {}, LCM, 50),
        ("latent-consistency/lcm-lora-sdv1-5", {}, LCM, 50),
        ("SimianLuo/LCM_Dreamshaper_v7", {"original_inference_steps": 100}, LCM, 100),
        ("mine", {"_class_name": "LCMScheduler"}, LCM, 50),
        ("mine", {"_class_name": "LCMScheduler", "original_inference_steps": "x"}, LCM, 50),
        ("mine", {"_class_name": "TCDScheduler", "original_inference_steps": 25}, TCD, 25),
        ("mine", {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, ONE, None),
    ],
)
def test_few_step_models_are_told(name: str, scheduler: dict[str, Any], hints: Hints, grid: int | None) -> None:
    character = character_of(name, scheduler, {})
    assert character == Character(True, hints, grid)
    defaults = defaults_for(SD1, character)
    assert hints.items() <= defaults.items()
    StreamConfig(**{**defaults, "solver": "ddim"})  # every default is in its range
    if not scheduler:
        assert tells_few_steps(name)
        assert character_of_name(name) == character


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("hyperrealism_v3", {}),
        ("HyperRealisticMix", {}),
        ("hyper-realistic", {}),
        ("flashback-photography", {}),
        ("Flash Photography", {}),
        ("lightningstorm", {}),
        ("turbocharged", {}),
        ("juggernautXL", {}),
        ("mine_4steps", {}),
        ("mine", {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}),
        ("runwayml/stable-diffusion-v1-5", {"_class_name": "PNDMScheduler"}),
    ],
)
def test_ordinary_models_are_not_taken_for_few_step_models(name: str, scheduler: dict[str, Any]) -> None:
    assert character_of(name, scheduler, {}) == Character(False, {})
    assert not tells_few_steps(name)
    assert character_of_name(name) is None


def test_a_model_told_the_guidance_takes_few_steps() -> None:
    assert character_of("mine", {}, {"time_cond_proj_dim": 256}) == Character(True, {**LCM, "guidance_scale": 8.0}, 50)


NOT_FOR_STREAMING = {
    "double_blocks.0.img_attn.norm.key_norm.scale": "is a Flux model",
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": "is a LoRA: load a model",
    "emb_params": "is a textual inversion",
    "some.other.weight": "is not a Stable Diffusion checkpoint",
    "model.diffusion_model.input_blocks.0.0.weight": "is not a Stable Diffusion checkpoint",
}


@pytest.mark.parametrize("key", NOT_FOR_STREAMING)
def test_a_file_of_another_kind_is_one_sentence(key: str, tmp_path: Path) -> None:
    save_file({key: torch.zeros(4, 4, 3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=NOT_FOR_STREAMING[key]):
        load_model(str(tmp_path / "model.safetensors"), device="cpu")


@pytest.mark.parametrize(("channels", "kind"), [(5, "a depth model"), (7, "of a kind that is not known here")])
def test_a_model_that_is_shown_something_else_is_refused_in_words(channels: int, kind: str, tmp_path: Path) -> None:
    words = f"is {kind}: its UNet takes {channels} channels and gives 4; take the plain model"
    state = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, channels, 3, 3),
        "model.diffusion_model.out.2.weight": torch.zeros(4, 8, 3, 3),
    }
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=words):
        load_model(str(tmp_path / "model.safetensors"), device="cpu")
    folder = write_tiny_model(tmp_path / "folder", sees_input=True)
    weights, config = (folder / "unet" / name for name in ("diffusion_pytorch_model.safetensors", "config.json"))
    state = load_file(weights)
    save_file({**state, "conv_in.weight": state["conv_in.weight"][:, :channels].contiguous()}, weights)
    write_json(config, {**json.loads(config.read_text(encoding="utf-8")), "in_channels": channels})
    with pytest.raises(ModelError, match=words):
        load_model(str(folder), device="cpu")


def test_an_inpainting_model_of_stable_diffusion_2_is_one_of_its_family() -> None:
    unet = {"in_channels": 9, "out_channels": 4, "use_linear_projection": True}
    assert family_of(unet, "StableDiffusionInpaintPipeline") is SD2


def test_a_file_without_a_tokenizer_says_where_to_put_one(shelf: Path) -> None:
    path = write_original(shelved("sd15", shelf), shelf / "alone" / "model.safetensors", "sd15")
    shutil.rmtree(path.parent / "tokenizer")
    with pytest.raises(
        ModelError, match=r"holds no tokenizer, and CLIP's cannot be fetched.*vocab.json and merges.txt at"
    ):
        load_model(str(path), device="cpu")


def test_an_autoencoder_of_early_diffusers_is_read(shelf: Path, tmp_path: Path) -> None:
    """Stable Diffusion 1.5 itself is stored so: the attention's layers have other names."""
    folder = shutil.copytree(shelved("sd15", shelf), tmp_path / "early")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    for now, early in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        state = {name.replace(f".{now}.", f".{early}."): tensor for name, tensor in state.items()}
    save_file(state, path)
    model = settled(load_model(str(folder), device="cpu", dtype="float32"))
    torch.testing.assert_close(picture(model), picture(model_of("sd15", shelf)), atol=1e-5, rtol=0)


def test_parts_of_two_models_do_not_stream_together(shelf: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(shelved("sd15", shelf), tmp_path / "mixed")
    shutil.rmtree(mixed / "unet")
    shutil.copytree(shelved("sdxl", shelf) / "unet", mixed / "unet")
    with pytest.raises(ModelError, match="embeddings are 64 wide, the UNet takes 192"):
        load_model(str(mixed), device="cpu")


def test_sdxl_in_half_precision_keeps_its_full_autoencoder_in_float32(shelf: Path) -> None:
    model = load_model(str(shelved("sdxl", shelf)), device="cpu", dtype="float16", autoencoder="full")
    assert (model.unet.dtype, model.autoencoder.module.dtype) == (torch.float16, torch.float32)
    latent = model.autoencoder.encode(frame()[None].half())
    assert bool(model.autoencoder.decode(latent.half()).isfinite().all())
