"""Models in the diffusers folder layout: one folder a part, and an index that says what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.errors import ModelError
from pipeline.models.families import SDXL, VITRAIL, family_of
from pipeline.models.parts import Parts, explained, read_json
from pipeline.models.weights import PICKLES, read_header


def read_folder(folder: Path, dtype: torch.dtype) -> Parts:
    """Read the model in ``folder``.

    Raises:
        ModelError: it is incomplete, damaged, of an unknown kind or stored as pickle.
    """
    index = read_json(folder / "model_index.json")
    unet = _read_unet(folder, index, dtype)
    kind = str(index.get("_class_name", ""))
    family = family_of(unet.config, kind)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    text_encoders = [_read_text_encoder(folder, "", penultimate=family is SDXL)]
    if _holds(index, "text_encoder_2"):
        text_encoders.append(_read_text_encoder(folder, "_2", penultimate=True))
    names = (folder.name, index.get("_name_or_path"), unet.config.get("_name_or_path"))
    return Parts(
        family=family,
        unet=unet,
        autoencoder=_read_autoencoder(folder, dtype),
        text_encoders=text_encoders,
        scheduler=scheduler,
        names="" if family is VITRAIL else " ".join(str(name) for name in names if name),
        raw_input="Pix2Pix" in kind,
        zero_negative=bool(index.get("force_zeros_for_empty_prompt")),
    )


def _holds(index: dict[str, Any], part: str) -> bool:
    return (index.get(part) or [None, None])[1] is not None


def _variant(folder: Path) -> str | None:
    """``fp16`` where only that variant of the weights is stored; looks at all headers, and refuses a part without."""
    stored = sorted(folder.glob("*.safetensors"))
    if not stored:
        if any(path for suffix in PICKLES for path in folder.glob(f"*{suffix}")):
            raise ModelError(
                f"{folder} holds its weights as pickle, which can run code, so it is not opened; "
                "convert it to safetensors or take a model that is stored so"
            )
        raise ModelError(f"the model is incomplete: {folder} holds no .safetensors file")
    for path in stored:
        read_header(path)
    return None if any(".fp16." not in path.name for path in stored) else "fp16"


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained`` on one local part."""
    if not folder.is_dir():
        raise ModelError(f"the model is incomplete: {folder} is missing")
    with explained(f"the model's {folder.name} in {folder}"):
        return kind.from_pretrained(folder, local_files_only=True, **options)


def _read_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    return _load(
        kind, folder, variant=_variant(folder), torch_dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
    )


def _read_unet(folder: Path, index: dict[str, Any], dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kind = (index.get("unet") or index.get("transformer") or [None, None])[1]
    if kind != "UNet2DConditionModel":
        raise ModelError(
            f"the model in {folder} has a denoiser of kind {kind}; only UNet2DConditionModel can be streamed "
            "(Stable Diffusion 1 and 2, SDXL, InstructPix2Pix and their fine-tunes)"
        )
    return _read_weights(UNet2DConditionModel, folder / "unet", dtype)


def _read_autoencoder(folder: Path, dtype: torch.dtype) -> Any:
    return read_autoencoder(folder / "vae", dtype)


def read_autoencoder(folder: Path, dtype: torch.dtype) -> Any:
    """The autoencoder whose configuration and weights lie in ``folder``. Raises ``ModelError``."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    kinds = {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL}
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if name not in kinds:
        raise ModelError(f"the autoencoder in {folder} is of kind {name}; known are {', '.join(kinds)}")
    # SDXL's overflows in float16, and says so.
    upcast = config.get("force_upcast") and name == "AutoencoderKL" and dtype == torch.float16
    return _read_weights(kinds[name], folder, torch.float32 if upcast else dtype)


def _read_text_encoder(folder: Path, which: str, *, penultimate: bool) -> TextEncoder:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    # Its bars would write over the application's own.
    transformers_logging.disable_progress_bar()
    text_folder = folder / f"text_encoder{which}"
    variant = _variant(text_folder) if text_folder.is_dir() else None
    kind = CLIPTextModelWithProjection if which else CLIPTextModel
    # The text encoder runs once a prompt: float32 costs nothing that matters, and is exact.
    module = _load(kind, text_folder, dtype=torch.float32, use_safetensors=True, variant=variant)
    return TextEncoder(_load(CLIPTokenizer, folder / f"tokenizer{which}"), module.eval(), penultimate)
