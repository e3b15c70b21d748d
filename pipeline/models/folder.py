"""Models in the diffusers folder layout: one folder a part, and an index that says what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.building import build_diffusers, build_text_encoder
from pipeline.models.errors import ModelError, explained
from pipeline.models.families import SDXL, VITRAIL, family_of
from pipeline.models.model_parts import Parts, part_class, read_json
from pipeline.models.modules import AutoencoderModule, UNet, autoencoder_classes, unet_class
from pipeline.models.original_layout import early_autoencoder_state
from pipeline.models.tokenizers import read_tokenizer
from pipeline.models.weights import sound_state, unused_note, weight_files
from pipeline.user_path import is_folder


def read_folder(folder: Path, dtype: torch.dtype) -> Parts:
    """Read the model in ``folder``.

    Raises:
        ModelError: it is incomplete, damaged, of an unknown kind or stored as pickle.
    """
    index = read_json(folder / "model_index.json")
    notes: list[str] = []
    unet = _read_unet(folder, index, dtype, notes)
    kind = str(index.get("_class_name", ""))
    family = family_of(unet.config, kind)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    text_encoders = [_read_text_encoder(folder, "", notes, penultimate=family is SDXL)]
    if part_class(index, "text_encoder_2") is not None:
        text_encoders.append(_read_text_encoder(folder, "_2", notes, penultimate=True))
    written = (index, read_json(folder / "unet" / "config.json"))
    names = (folder.name, _hub_name(folder), *(config.get("_name_or_path") for config in written))
    return Parts(
        family=family,
        unet=unet,
        autoencoder=read_autoencoder(folder / "vae", dtype, notes),
        text_encoders=text_encoders,
        scheduler=scheduler,
        names="" if family is VITRAIL else " ".join(str(name) for name in names if name),
        raw_input="Pix2Pix" in kind,
        zero_negative=bool(index.get("force_zeros_for_empty_prompt")),
        notes=notes,
    )


def _hub_name(folder: Path) -> str:
    """The name on the hub of a model in its cache, ``models--owner--name/snapshots/REVISION``; else empty."""
    cached = folder.parent.parent.name if folder.parent.name == "snapshots" else ""
    return cached if cached.startswith("models--") else ""


def _read_state(folder: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The part and where it lies, for people, and its weights by name, sound and finite."""
    if not is_folder(folder):
        raise ModelError(f"the model is incomplete: {folder} is missing")
    return f"the model's {folder.name} in {folder}", sound_state(weight_files(folder))


def _note_unused(what: str, unused: list[str], state: Mapping[str, torch.Tensor], notes: list[str]) -> None:
    if unused:
        notes.append(unused_note(what, unused, len(state), "its configuration has no place for them"))


def _read_unet(folder: Path, index: Mapping[str, object], dtype: torch.dtype, notes: list[str]) -> UNet:
    kind = part_class(index, "unet") or part_class(index, "transformer")
    if kind != "UNet2DConditionModel":
        raise ModelError(
            f"the model in {folder} has a denoiser of kind {kind}; only UNet2DConditionModel can be streamed "
            "(Stable Diffusion 1 and 2, SDXL, InstructPix2Pix and their fine-tunes)"
        )
    what, state = _read_state(folder / "unet")
    config = read_json(folder / "unet" / "config.json")
    unet, unused = build_diffusers(what, unet_class(), config, state, dtype)
    _note_unused(what, unused, state, notes)
    return unet


def read_autoencoder(folder: Path, dtype: torch.dtype, notes: list[str]) -> AutoencoderModule:
    """The autoencoder whose configuration and weights lie in ``folder``. Raises ``ModelError``.

    Args:
        folder: with its ``config.json``.
        dtype: its number format; float32 where it would overflow in float16.
        notes: told of weights that have no place in it.
    """
    kinds = autoencoder_classes()
    config = read_json(folder / "config.json")
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in kinds:
        raise ModelError(f"the autoencoder in {folder} is of kind {name}; known are {', '.join(kinds)}")
    for entry in ("scaling_factor", "shift_factor"):
        value = config.get(entry)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise ModelError(f"the autoencoder in {folder} is damaged: its {entry} is {value!r}, not a number")
    # SDXL's overflows in float16, and says so.
    upcast = config.get("force_upcast") and name == "AutoencoderKL" and dtype == torch.float16
    what, state = _read_state(folder)
    state = early_autoencoder_state(state)
    autoencoder, unused = build_diffusers(what, kinds[name], config, state, torch.float32 if upcast else dtype)
    _note_unused(what, unused, state, notes)
    return autoencoder


# Weights of the whole of CLIP, which the files of some text encoders hold as well, and buffers of earlier releases.
_BESIDE_TEXT = ("vision_model.", "visual_projection.", "text_projection.", "logit_scale", "position_ids")


def _read_text_encoder(folder: Path, which: str, notes: list[str], *, penultimate: bool) -> TextEncoder:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    from transformers.utils import logging as transformers_logging

    # Its bars would write over the application's own.
    transformers_logging.disable_progress_bar()
    place = folder / f"text_encoder{which}"
    what, state = _read_state(place)
    read_json(place / "config.json")
    with explained(what):
        config = CLIPTextConfig.from_pretrained(place, local_files_only=True)
    kind = CLIPTextModelWithProjection if which else CLIPTextModel
    module, unused = build_text_encoder(what, kind, config, state)
    unknown = [name for name in unused if not any(mark in name for mark in _BESIDE_TEXT)]
    _note_unused(what, unknown, state, notes)
    tokenizer = read_tokenizer(folder / f"tokenizer{which}", config.vocab_size, config.max_position_embeddings)
    return TextEncoder(tokenizer, module, penultimate)
