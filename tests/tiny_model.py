"""Tiny models with random weights, written in the true diffusers layout and loaded by the real loader."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline import Model, load_model

TOKENS = ["<|startoftext|>", "<|endoftext|>"]


def write_tiny_model(
    folder: Path,
    *,
    sees_input: bool = False,
    sees_mask: bool = False,
    prediction_type: str = "epsilon",
    latent_channels: int = 4,
    seed: int = 0,
) -> Path:
    """Write a complete checkpoint of about 0.2 M parameters to ``folder``."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels * (2 if sees_input or sees_mask else 1) + sees_mask,
        out_channels=latent_channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    make_prompts_matter(unet)
    unet.save_pretrained(folder / "unet")
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=latent_channels,
    )
    make_pictures_matter(autoencoder)
    autoencoder.save_pretrained(folder / "vae")
    _write_text_parts(folder)
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "LCMScheduler",
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": prediction_type,
        },
    )
    write_index(folder)
    return folder


def write_index(folder: Path) -> None:
    """What a diffusers folder of these parts says it holds."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "LCMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    write_json(folder / "model_index.json", index)


@cache
def tiny_model(
    sees_input: bool = False, prediction_type: str = "epsilon", latent_channels: int = 4, *, sees_mask: bool = False
) -> Model:
    """A tiny model on the CPU in float32; shared between tests, which must leave its weights as they are."""
    return new_tiny_model(sees_input, prediction_type, latent_channels, sees_mask=sees_mask)


def new_tiny_model(
    sees_input: bool = False, prediction_type: str = "epsilon", latent_channels: int = 4, *, sees_mask: bool = False
) -> Model:
    """The same model, with the same weights, loaded anew: a test may do with it what it likes."""
    with TemporaryDirectory() as folder:
        path = write_tiny_model(
            Path(folder) / "tiny",
            sees_input=sees_input,
            sees_mask=sees_mask,
            prediction_type=prediction_type,
            latent_channels=latent_channels,
        )
        return load_model(str(path), device="cpu", dtype="float32")


def unet_of(model: Model) -> UNet2DConditionModel:
    """The UNet of ``model`` as what it is, for a test that looks inside."""
    assert isinstance(model.unet, UNet2DConditionModel)
    return model.unet


def make_prompts_matter(unet: UNet2DConditionModel) -> None:
    """Random cross-attention is nearly uniform, and its answer to two prompts nearly the same: make it differ."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight", "attn2.to_v.weight")):
                weight.mul_(6)


def make_pictures_matter(autoencoder: AutoencoderTiny) -> None:
    """Random autoencoders answer every picture with nearly the same grey: spread latents and pictures out."""
    with torch.no_grad():
        list(autoencoder.encoder.parameters())[-2].mul_(8)
        list(autoencoder.decoder.parameters())[-2].mul_(10)


def _write_text_parts(folder: Path) -> None:
    config = CLIPTextConfig(
        vocab_size=2 + 512,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=16,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")


def write_tokenizer(folder: Path, pad: str = TOKENS[1]) -> None:
    """CLIP's kind of tokenizer, with single characters for a vocabulary."""
    letters = [chr(c) for c in range(256, 512)]
    symbols = [chr(c) for c in range(33, 127)] + letters
    pieces = (symbols[:256] + [s + "</w>" for s in symbols[:256]]) + TOKENS
    write_json(folder / "vocab.json", {piece: n for n, piece in enumerate(pieces)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": TOKENS[0],
        "eos_token": TOKENS[1],
        "unk_token": TOKENS[1],
        "pad_token": pad,
    }
    write_json(folder / "tokenizer_config.json", tokenizer)


def write_json(path: Path, content: object) -> None:
    """Write ``content``, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
