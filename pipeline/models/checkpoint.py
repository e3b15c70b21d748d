"""Single-file checkpoints in the original key layout of Stable Diffusion 1, 2 and XL.

Such a file holds tensors and no configuration. What diffusers would fetch from the hub is read off the shapes here, so
that a file works without a network, and at any width. The renaming of the keys is diffusers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.errors import ModelError
from pipeline.models.families import PIX2PIX, SD1, SD2, SDXL, Family
from pipeline.models.parts import Parts, explained
from pipeline.models.tokenizers import clip_tokenizer
from pipeline.models.weights import Header, read_header

Shapes = Mapping[str, tuple[int, ...]]

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_CLIP = "cond_stage_model.transformer.text_model."
_OPEN_CLIP = "cond_stage_model.model."
_XL_CLIP = "conditioner.embedders.0.transformer.text_model."
_XL_OPEN_CLIP = "conditioner.embedders.1.model."

# Checkpoints that are no UNet of these families, by a key that each of them has.
_OTHERS = {
    "double_blocks.": "a Flux model",
    "joint_blocks.": "a Stable Diffusion 3 model",
    "conditioner.embedders.0.model.": "the SDXL refiner, which only finishes pictures of another model",
    "lora_unet_": "a LoRA: load a model, and give this file as --lora",
    "lora_A.weight": "a LoRA: load a model, and give this file as --lora",
    "lora.down.weight": "a LoRA: load a model, and give this file as --lora",
    "control_model.": "a ControlNet",
    "emb_params": "a textual inversion: load a model, and give this file as --embedding",
}
# The width of one attention head in all CLIP text encoders, and in the UNets from Stable Diffusion 2 on.
_HEAD = 64
_FIRST_UNET_HEADS = 8
_SIZE_EMBEDDING = 256
# Spread of a normalisation weight that is larger in models trained for v-prediction (as ComfyUI tells the two apart).
_V_SPREAD = 0.09


def read_checkpoint(path: Path, dtype: torch.dtype) -> Parts:
    """Read the model in the file ``path``.

    Raises:
        ModelError: it is a pickle, damaged, of a kind that cannot be streamed, or its tokenizer cannot be had.
    """
    from transformers.utils import logging as transformers_logging

    # Its bars would write over the application's own.
    transformers_logging.disable_progress_bar()
    header = read_header(path)
    family = family_of_file(path, header.shapes)
    with explained(str(path)):
        from safetensors.torch import load_file

        state = load_file(path)
    notes: list[str] = []
    with explained(f"the UNet in {path}"):
        unet = _unet(header.shapes, state, family, dtype)
    with explained(f"the autoencoder in {path}"):
        autoencoder = _autoencoder(header.shapes, state, family, dtype)
    with explained(f"the text encoder in {path}"):
        text_encoders = _text_encoders(path, header.shapes, state, family)
    return Parts(
        family=family,
        unet=unet,
        autoencoder=autoencoder,
        text_encoders=text_encoders,
        scheduler=_scheduler(header, state, family, notes),
        names=f"{path.stem} {header.metadata.get('modelspec.title', '')}",
        raw_input=family is PIX2PIX,
        zero_negative=family is SDXL,
        notes=notes,
    )


def family_of_file(path: Path, shapes: Shapes) -> Family:
    """The family of a checkpoint with tensors of these ``shapes``. Raises ``ModelError`` where none streams."""
    for mark, kind in _OTHERS.items():
        if any(mark in name for name in shapes):
            raise ModelError(f"{path} is {kind}")
    first = shapes.get(f"{_UNET}input_blocks.0.0.weight")
    last = shapes.get(f"{_UNET}out.2.weight")
    if first is None or last is None or len(first) != 4:
        raise ModelError(
            f"{path} is not a Stable Diffusion checkpoint in the original layout: it holds no {_UNET}input_blocks.0.0; "
            "of a model that is stored in several files, give the folder"
        )
    if first[1] == 2 * last[0]:
        return PIX2PIX
    if first[1] != last[0]:
        raise ModelError(
            f"{path} is an inpainting or depth model (its UNet takes {first[1]} channels); take the plain one"
        )
    if _has(shapes, _XL_OPEN_CLIP):
        return SDXL
    if _has(shapes, _OPEN_CLIP):
        return SD2
    if _has(shapes, _CLIP):
        return SD1
    raise ModelError(f"{path} holds a UNet alone, without its text encoder; take a file with all parts, or a folder")


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers the one group of ``pattern`` takes among the names, counted from 0."""
    numbers = [int(match.group(1)) for name in shapes if (match := re.match(pattern, name))]
    return max(numbers, default=-1) + 1


def unet_config(shapes: Shapes, family: Family) -> dict[str, Any]:
    """The configuration of the UNet with these ``shapes``, read off them."""
    inputs = _count(shapes, re.escape(_UNET) + r"input_blocks\.(\d+)\.")
    halved = [n for n in range(inputs) if f"{_UNET}input_blocks.{n}.0.op.weight" in shapes]
    per_level = (
        halved[0] if halved else inputs
    )  # the first level: one block for the input, then its own, then the halving
    widths, depths = [], []
    for level in range(len(halved) + 1):
        block = level * per_level + 1
        widths.append(shapes[f"{_UNET}input_blocks.{block}.0.out_layers.3.weight"][0])
        depths.append(_count(shapes, re.escape(f"{_UNET}input_blocks.{block}.1.transformer_blocks.") + r"(\d+)\."))
    legacy = family in (SD1, PIX2PIX)
    first_text = next(name for name in shapes if name.endswith("attn2.to_k.weight"))
    config = {
        "in_channels": shapes[f"{_UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{_UNET}out.2.weight"][0],
        "sample_size": family.size // 8,
        "layers_per_block": per_level - 1,
        "block_out_channels": tuple(widths),
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        "transformer_layers_per_block": tuple(max(1, depth) for depth in depths),
        "cross_attention_dim": shapes[first_text][1],
        # diffusers' old name for the number of heads.
        "attention_head_dim": _FIRST_UNET_HEADS if legacy else tuple(max(1, width // _HEAD) for width in widths),
        "use_linear_projection": not legacy,
    }
    added = shapes.get(f"{_UNET}label_emb.0.0.weight")
    if added is not None:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_EMBEDDING,
            "projection_class_embeddings_input_dim": added[1],
        }
    return config


def _unet(shapes: Shapes, state: dict[str, torch.Tensor], family: Family, dtype: torch.dtype) -> Any:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    config = unet_config(shapes, family)
    return _built(UNet2DConditionModel, config, convert_ldm_unet_checkpoint(state, config), dtype)


def _autoencoder(shapes: Shapes, state: dict[str, torch.Tensor], family: Family, dtype: torch.dtype) -> Any:
    """None where the file holds none."""
    if f"{_VAE}encoder.conv_in.weight" not in shapes:
        return None
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = _count(shapes, re.escape(_VAE) + r"encoder\.down\.(\d+)\.")
    config = {
        "latent_channels": shapes[f"{_VAE}post_quant_conv.weight"][0],
        "block_out_channels": tuple(
            shapes[f"{_VAE}encoder.down.{level}.block.0.conv2.weight"][0] for level in range(levels)
        ),
        "layers_per_block": _count(shapes, re.escape(_VAE) + r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "scaling_factor": family.latent_scale,
        "force_upcast": family is SDXL,
    }
    only = {name: tensor for name, tensor in state.items() if name.startswith(_VAE)}
    # SDXL's overflows in float16.
    upcast = family is SDXL and dtype == torch.float16
    converted = convert_ldm_vae_checkpoint(only, config)
    return _built(AutoencoderKL, config, converted, torch.float32 if upcast else dtype)


def _built(kind: Any, config: dict[str, Any], state: dict[str, torch.Tensor], dtype: torch.dtype) -> Any:
    """A module of ``kind`` on the tensors of ``state``, none of them held twice."""
    with torch.device("meta"):
        module = kind.from_config(config)
    module.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    return module


def _text_encoders(path: Path, shapes: Shapes, state: dict[str, torch.Tensor], family: Family) -> list[TextEncoder]:
    if family is SDXL:
        return [
            _clip(path, shapes, state, _XL_CLIP, penultimate=True),
            _open_clip(path, shapes, state, _XL_OPEN_CLIP, projects=True),
        ]
    if _has(shapes, _OPEN_CLIP):
        return [_open_clip(path, shapes, state, _OPEN_CLIP, projects=False)]
    return [_clip(path, shapes, state, _CLIP, penultimate=False)]


def _clip(path: Path, shapes: Shapes, state: dict[str, torch.Tensor], prefix: str, *, penultimate: bool) -> TextEncoder:
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint
    from transformers import CLIPTextModel

    tokenizer = clip_tokenizer(path, shapes[f"{prefix}embeddings.token_embedding.weight"][0])
    layers = _count(shapes, re.escape(prefix) + r"encoder\.layers\.(\d+)\.")
    config = _text_config(
        tokenizer,
        vocabulary=shapes[f"{prefix}embeddings.token_embedding.weight"],
        inner=shapes[f"{prefix}encoder.layers.0.mlp.fc1.weight"][0],
        layers=layers,
        act="quick_gelu",
    )
    only = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    converted = convert_ldm_clip_checkpoint(only)
    return TextEncoder(tokenizer, _text_module(CLIPTextModel, config, converted), penultimate)


def _open_clip(
    path: Path, shapes: Shapes, state: dict[str, torch.Tensor], prefix: str, *, projects: bool
) -> TextEncoder:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = shapes[f"{prefix}token_embedding.weight"]
    tokenizer = clip_tokenizer(path, vocabulary[0], pad="!")
    layers = _count(shapes, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    config = _text_config(
        tokenizer,
        vocabulary=vocabulary,
        inner=shapes[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"][0],
        # Stable Diffusion 2 reads the last layer but one, normalised: it is loaded without the last.
        layers=layers if projects else layers - 1,
        act="gelu",
        projection=shapes[f"{prefix}text_projection"][1] if projects else None,
    )
    kind = CLIPTextModelWithProjection if projects else CLIPTextModel
    with torch.device("meta"):
        bare = kind(config)
    only = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith(prefix) and (projects or f".resblocks.{layers - 1}." not in name)
    }
    if not projects:  # else the converter takes its width for that of the attention
        only.pop(f"{prefix}text_projection", None)
    converted = convert_open_clip_checkpoint(bare, only, prefix=prefix)
    return TextEncoder(tokenizer, _text_module(kind, config, converted), penultimate=projects)


def _text_config(
    tokenizer: Any, *, vocabulary: tuple[int, ...], inner: int, layers: int, act: str, projection: int | None = None
) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=vocabulary[0],
        hidden_size=vocabulary[1],
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=max(1, vocabulary[1] // _HEAD),
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=act,
        projection_dim=projection or vocabulary[1],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _text_module(kind: Any, config: Any, state: dict[str, torch.Tensor]) -> Any:
    with torch.device("meta"):
        wrapped = hasattr(kind(config), "text_model")
    prefix = "text_model."
    if wrapped:
        named = {
            name if name.startswith((prefix, "text_projection")) else prefix + name: t for name, t in state.items()
        }
    else:
        named = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    named = {name: tensor.float() for name, tensor in named.items() if not name.endswith("position_ids")}
    with torch.device("meta"):
        missing = set(kind(config).state_dict()) - set(named)
    if missing:
        raise KeyError(f"{len(missing)} tensors are missing, such as {min(missing)}")
    return kind.from_pretrained(None, config=config, state_dict=named, dtype=torch.float32).eval()


def _scheduler(header: Header, state: dict[str, torch.Tensor], family: Family, notes: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": "ztsnr" in header.shapes,
    }
    said = header.metadata.get("modelspec.prediction_type", header.metadata.get("modelspec.predict_key", ""))
    if said:
        predicts_v = said.startswith("v")
    elif "v_pred" in header.shapes:
        predicts_v = True
    else:
        probe = state.get(f"{_UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias")
        predicts_v = family is SD2 and probe is not None and float(probe.float().std(unbiased=False)) > _V_SPREAD
        if family is SD2:
            notes.append(
                f"the file does not say what its UNet predicts; its weights look like {'v' if predicts_v else 'noise'} "
                "(add modelspec.prediction_type to its metadata where that is wrong)"
            )
    if predicts_v:
        config["prediction_type"] = "v_prediction"
    return config
