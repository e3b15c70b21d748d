"""Single-file checkpoints in the original key layout of Stable Diffusion 1, 2 and XL.

Such a file holds tensors and no configuration. What diffusers would fetch from the hub is read off the shapes here, so
that a file works without a network, at any width, and with fewer layers than the model that it was distilled from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.conditioning.text_model import TextModel, Tokenizer
from pipeline.models.building import build_diffusers, build_text_encoder
from pipeline.models.errors import ModelError, explained
from pipeline.models.families import PIX2PIX, SD1, SD2, SDXL, Family, check_channels
from pipeline.models.lora_names import is_lora
from pipeline.models.model_parts import Parts
from pipeline.models.modules import AutoencoderModule, UNet, autoencoder_classes, unet_class
from pipeline.models.original_layout import autoencoder_state, open_clip_state, unet_name
from pipeline.models.tokenizers import find_clip_tokenizer, folder_beside, read_tokenizer
from pipeline.models.weights import Header, check_finite, open_tensors, read_header, unused_note

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

Shapes = Mapping[str, tuple[int, ...]]
State = dict[str, torch.Tensor]
Part = TypeVar("Part")

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
# Older merges, and some trainers, leave ``text_model`` out of the names.
_CLIP = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")
_OPEN_CLIP = "cond_stage_model.model."
_XL_CLIP = ("conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.0.transformer.")
_XL_OPEN_CLIP = "conditioner.embedders.1.model."

# Checkpoints that are of no use here, by a piece of a name that each of them has.
_OTHERS = {
    "double_blocks.": "is a Flux model",
    "joint_blocks.": "is a Stable Diffusion 3 model",
    "conditioner.embedders.0.model.": "is the SDXL refiner, which only finishes pictures of another model",
    "control_model.": "is a ControlNet",
    "emb_params": "is a textual inversion: load a model, and give this file as --embedding",
    "edm_vpred.": "is a CosXL model, whose noise schedule (EDM) is not known here; take a plain SDXL model",
    "edm_mean": "is a Playground 2.5 model, whose noise schedule (EDM) is not known here; take a plain SDXL model",
    "scaled_fp8": "stores its weights as scaled float8, which is not known here; take the float16 file of the model",
    ".scale_weight": "stores its weights as scaled float8, which is not known here; take the float16 file of the model",
    ".weight_scale": "stores its weights as scaled float8, which is not known here; take the float16 file of the model",
    ".absmax": "stores its weights in four or eight bits, which is not known here; take the float16 file of the model",
}
# Tensors that a checkpoint may hold besides the parts of the model, and that a stream has no use for.
_KNOWN_BESIDE = re.compile(
    "|".join(
        (
            r"model_ema\.",  # a moving average of the weights, for training on
            r"first_stage_model\.(loss|model_ema)\.",
            r".*\.(position_ids|attn_mask)$",  # constants of earlier text encoders
            r".*\.(logit_scale|text_projection|text_projection\.weight)$",  # of CLIP, to compare texts with pictures
            # The noise schedule, number by number; all of these models have the same.
            r"(betas|logvar|lvlb_weights|scale_factor|denoiser\.sigmas|denoiser\.log_sigmas)$",
            r"(sqrt_|log_)?(recip_|recipm1_|one_minus_)?alphas_cumprod(_prev)?$",
            r"posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)$",
            r"(v_pred|ztsnr)$",  # what the UNet predicts; see _scheduler
            r"(optimizer|optimizer_states|lr_schedulers|loss)\.",  # of a training run
            r"(global_step|epoch|iteration)$",
        )
    )
)
# The width of one attention head in all CLIP text encoders, and in the UNets from Stable Diffusion 2 on.
_HEAD = 64
_FIRST_UNET_HEADS = 8
_SIZE_EMBEDDING = 256
# Layers that Stable Diffusion 2 reads of OpenCLIP's ViT-H, which has 24; trainers save them with or without the last.
_SD2_TEXT_LAYERS = 23
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
    file = _File(path, header.shapes, open_tensors(path))
    unet = _unet(file, family, dtype)
    autoencoder = _autoencoder(file, family, dtype)
    text_encoders = _text_encoders(file, family)
    notes: list[str] = []
    scheduler = _scheduler(header, file.state, family, notes)
    if file.unused:
        why = "they are no part of a Stable Diffusion model that is known here"
        notes.append(unused_note(path.name, file.unused, len(header.shapes), why))
    return Parts(
        family=family,
        unet=unet,
        autoencoder=autoencoder,
        text_encoders=text_encoders,
        scheduler=scheduler,
        names=f"{path.stem} {header.metadata.get('modelspec.title', '')}",
        raw_input=family is PIX2PIX,
        zero_negative=family is SDXL,
        notes=notes,
        sources=[file.tokenizer, folder_beside(path)],
    )


class _File:
    """The tensors of a checkpoint, and which of them no part of the model has taken yet.

    Attributes:
        path: of the file.
        shapes, state: its tensors by name.
    """

    def __init__(self, path: Path, shapes: Shapes, state: State) -> None:
        self.path = path
        self.shapes = shapes
        self.state = state
        self._left = {name for name in state if not _KNOWN_BESIDE.match(name)}

    @cached_property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer. Raises ``ModelError``."""
        return find_clip_tokenizer(self.path)

    @property
    def unused(self) -> list[str]:
        """Names of the tensors that no part has taken, and that are not known to be of no use."""
        return sorted(self._left)

    def part(
        self, prefix: str, convert: Callable[[State], State], build: Callable[[State], tuple[Part, list[str]]]
    ) -> Part:
        """A part of the model, built on the tensors whose names begin with ``prefix``.

        Args:
            prefix: left out of the names that ``convert`` is given.
            convert: gives a tensor its name in the library, or parts it into several.
            build: the module, and those names that it has no place for.

        Raises:
            ModelError: a number is not finite, or what ``build`` raises.
        """
        taken = {name: tensor for name, tensor in self.state.items() if name.startswith(prefix)}
        converted: State = {}
        origins: dict[str, str] = {}
        for name, tensor in taken.items():
            found = convert({name.removeprefix(prefix): tensor})
            converted |= found
            origins |= dict.fromkeys(found, name)
        module, unused = build(converted)
        used = set(taken) - {origins[name] for name in unused}
        check_finite(self.path, {name: taken[name] for name in sorted(used)})
        self._left -= used
        return module


def family_of_file(path: Path, shapes: Shapes) -> Family:
    """The family of a checkpoint with tensors of these ``shapes``. Raises ``ModelError`` where none streams."""
    first = shapes.get(f"{_UNET}input_blocks.0.0.weight", ())
    last = shapes.get(f"{_UNET}out.2.weight", ())
    if not first and is_lora(shapes):
        raise ModelError(f"{path} is a LoRA: load a model, and give this file as --lora")
    for mark, kind in _OTHERS.items():
        if any(mark in name for name in shapes):
            raise ModelError(f"{path} {kind}")
    if len(first) != 4 or len(last) != 4:
        raise ModelError(
            f"{path} is not a Stable Diffusion checkpoint in the original layout: it holds no {_UNET}input_blocks.0.0; "
            "of a model that is stored in several files, give the folder"
        )
    check_channels(path, first[1], last[0])
    if first[1] == 2 * last[0]:
        return PIX2PIX
    if _has(shapes, _XL_OPEN_CLIP):
        return SDXL
    if _has(shapes, _OPEN_CLIP):
        return SD2
    if _clip_prefix(shapes, _CLIP):
        return SD1
    of_text = [name for name in shapes if name.startswith(("cond_stage_model.", "conditioner."))]
    if of_text:
        raise ModelError(
            f"{path} has a text encoder of a kind that is not known here (such as {of_text[0]}); known are CLIP's, as "
            "in Stable Diffusion 1, 2 and SDXL"
        )
    raise ModelError(f"{path} holds a UNet alone, without its text encoder; take a file with all parts, or a folder")


def _has(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _clip_prefix(shapes: Shapes, prefixes: Sequence[str]) -> str | None:
    """Which of ``prefixes`` the weights of a CLIP text encoder have; None where there is none."""
    return next((prefix for prefix in prefixes if f"{prefix}embeddings.token_embedding.weight" in shapes), None)


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers the one group of ``pattern`` takes among the names."""
    return len({match.group(1) for name in shapes if (match := re.match(pattern, name))})


def _shape(shapes: Shapes, name: str) -> tuple[int, ...]:
    """The shape of a matrix or a convolution. Raises ``ValueError`` where there is none of that name."""
    shape = shapes.get(name)
    if shape is None or len(shape) < 2:
        raise ValueError(f"it holds no {name}" if shape is None else f"its {name} has the shape {shape}")
    return shape


def _levels(shapes: Shapes) -> tuple[int, int]:
    """How many levels the UNet has, and how many blocks a level has on the way down, its halving counted.

    Raises:
        ValueError: its levels differ in their number of blocks.
    """
    halved = [int(m[1]) for name in shapes if (m := re.fullmatch(_UNET + r"input_blocks\.(\d+)\.0\.op\.weight", name))]
    levels = len(halved) + 1
    blocks = _count(shapes, re.escape(_UNET) + r"input_blocks\.(\d+)\.") // levels
    if sorted(halved) != [blocks * level for level in range(1, levels)] or blocks * levels != _count(
        shapes, re.escape(_UNET) + r"output_blocks\.(\d+)\."
    ):
        raise ValueError("its levels have different numbers of layers, which is not known here")
    return levels, blocks


def unet_config(shapes: Shapes, family: Family) -> dict[str, object]:
    """The configuration of the UNet with these ``shapes``, read off them.

    Raises:
        ValueError: it is of a structure that diffusers' ``UNet2DConditionModel`` does not have.
    """
    levels, blocks = _levels(shapes)
    # A level has one block more than layers: going down the input's or the halving before it, going up one layer more.
    layers = blocks - 1

    def depth(block: str) -> int:
        return _count(shapes, re.escape(f"{_UNET}{block}.1.transformer_blocks.") + r"(\d+)\.")

    widths = [
        _shape(shapes, f"{_UNET}input_blocks.{level * blocks + 1}.0.out_layers.3.weight")[0] for level in range(levels)
    ]
    down = [[depth(f"input_blocks.{level * blocks + 1 + layer}") for layer in range(layers)] for level in range(levels)]
    up = [[depth(f"output_blocks.{level * blocks + layer}") for layer in range(blocks)] for level in range(levels)]
    legacy = family in (SD1, PIX2PIX)
    of_text = next((name for name in shapes if name.startswith(_UNET) and name.endswith("attn2.to_k.weight")), None)
    if of_text is None:
        raise ValueError("it takes no text")
    config: dict[str, object] = {
        "in_channels": shapes[f"{_UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{_UNET}out.2.weight"][0],
        "sample_size": family.size // 8,
        "layers_per_block": layers,
        "block_out_channels": tuple(widths),
        "down_block_types": tuple("CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in down),
        "up_block_types": tuple("CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in up),
        **_depths(down, depth("middle_block"), up),
        "mid_block_type": _middle(shapes),
        "cross_attention_dim": _shape(shapes, of_text)[1],
        # diffusers' old name for the number of heads.
        "attention_head_dim": _FIRST_UNET_HEADS if legacy else tuple(max(1, width // _HEAD) for width in widths),
        "use_linear_projection": not legacy,
    }
    told_guidance = f"{_UNET}time_embed.cond_proj.weight"
    if told_guidance in shapes:
        config["time_cond_proj_dim"] = _shape(shapes, told_guidance)[1]
    if f"{_UNET}label_emb.0.0.weight" in shapes:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_EMBEDDING,
            "projection_class_embeddings_input_dim": _shape(shapes, f"{_UNET}label_emb.0.0.weight")[1],
        }
    return config


def _middle(shapes: Shapes) -> str | None:
    """diffusers' name for the middle of the UNet. Raises ``ValueError`` where it has none for it."""
    count = _count(shapes, re.escape(_UNET) + r"middle_block\.(\d+)\.")
    attends = _has(shapes, f"{_UNET}middle_block.1.transformer_blocks.")
    kinds: dict[tuple[int, bool], str | None] = {
        (3, True): "UNetMidBlock2DCrossAttn",
        (1, False): "UNetMidBlock2D",  # SSD-1B and Segmind-Vega
        (0, False): None,  # BK-SDM-Tiny
    }
    if (count, attends) not in kinds:
        raise ValueError(
            f"its middle is made of {count} blocks {'with' if attends else 'without'} attention, which is not known "
            "here; the model is reduced in a way of its own"
        )
    return kinds[count, attends]


def _depths(down: list[list[int]], middle: int, up: list[list[int]]) -> dict[str, object]:
    """How many transformer blocks each attention of the UNet has, as diffusers' configurations say it.

    Args:
        down, up: of each layer of each level, in the order in which they run; 0 where a layer has no attention.
        middle: of the middle.

    Raises:
        ValueError: diffusers has no words for it.
    """
    if any(0 in level and any(level) for level in (*down, *up)):
        raise ValueError("some layers of a level have attention and others have none, which is not known here")
    # A level without attention has an entry as well, which nobody reads, but that the middle goes by that of the last.
    written = [[depth or 1 for depth in level] for level in down]
    if middle and not any(down[-1]):
        written[-1] = [middle] * len(down[-1])
    if middle and written[-1][0] != middle:
        raise ValueError(f"its middle has {middle} transformer blocks and its last level {written[-1][0]}")
    mirrored = all(
        set(above) == set(below) and len(set(above)) == 1 for above, below in zip(down, reversed(up), strict=True)
    )
    if mirrored:
        return {"transformer_layers_per_block": tuple(level[0] for level in written)}
    return {
        "transformer_layers_per_block": written,
        "reverse_transformer_layers_per_block": [[depth or 1 for depth in level] for level in up],
    }


def _unet(file: _File, family: Family, dtype: torch.dtype) -> UNet:
    what = f"the UNet in {file.path}"
    with explained(what):
        config = unet_config(file.shapes, family)
        _, blocks = _levels(file.shapes)

    def convert(state: State) -> State:
        return {unet_name(name, blocks - 1): tensor for name, tensor in state.items()}

    def build(state: State) -> tuple[UNet, list[str]]:
        return build_diffusers(what, unet_class(), config, state, dtype)

    return file.part(_UNET, convert, build)


def _autoencoder(file: _File, family: Family, dtype: torch.dtype) -> AutoencoderModule | None:
    """None where the file holds none."""
    shapes = {name.removeprefix(_VAE): shape for name, shape in file.shapes.items() if name.startswith(_VAE)}
    if "encoder.conv_in.weight" not in shapes:
        return None
    what = f"the autoencoder in {file.path}"
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    with explained(what):
        config = {
            "latent_channels": _shape(shapes, "decoder.conv_in.weight")[1],
            "block_out_channels": tuple(
                _shape(shapes, f"encoder.down.{level}.block.0.conv2.weight")[0] for level in range(levels)
            ),
            "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "scaling_factor": family.latent_scale,
            "force_upcast": family is SDXL,
        }
    # SDXL's overflows in float16.
    upcast = family is SDXL and dtype == torch.float16

    def build(state: State) -> tuple[AutoencoderModule, list[str]]:
        kind = autoencoder_classes()["AutoencoderKL"]
        return build_diffusers(what, kind, config, state, torch.float32 if upcast else dtype)

    return file.part(_VAE, lambda state: autoencoder_state(state, levels), build)


def _text_encoders(file: _File, family: Family) -> list[TextEncoder]:
    with explained(f"the text encoder in {file.path}"):
        if family is SDXL:
            return [_clip(file, _XL_CLIP, penultimate=True), _open_clip(file, _XL_OPEN_CLIP, projects=True)]
        if _has(file.shapes, _OPEN_CLIP):
            return [_open_clip(file, _OPEN_CLIP, projects=False)]
        return [_clip(file, _CLIP, penultimate=False)]


def _clip(file: _File, prefixes: Sequence[str], *, penultimate: bool) -> TextEncoder:
    from transformers import CLIPTextModel

    prefix = _clip_prefix(file.shapes, prefixes) or prefixes[0]
    vocabulary = _shape(file.shapes, f"{prefix}embeddings.token_embedding.weight")
    positions = _shape(file.shapes, f"{prefix}embeddings.position_embedding.weight")
    tokenizer = read_tokenizer(file.tokenizer, vocabulary[0], positions[0])
    config = _text_config(
        tokenizer,
        vocabulary=vocabulary,
        positions=positions[0],
        inner=_shape(file.shapes, f"{prefix}encoder.layers.0.mlp.fc1.weight")[0],
        layers=_count(file.shapes, re.escape(prefix) + r"encoder\.layers\.(\d+)\."),
        act="quick_gelu",
    )

    def build(state: State) -> tuple[TextModel, list[str]]:
        return build_text_encoder(f"the text encoder in {file.path}", CLIPTextModel, config, state)

    return TextEncoder(tokenizer, file.part(prefix, dict, build), penultimate)


def _open_clip(file: _File, prefix: str, *, projects: bool) -> TextEncoder:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = _shape(file.shapes, f"{prefix}token_embedding.weight")
    positions = _shape(file.shapes, f"{prefix}positional_embedding")
    tokenizer = read_tokenizer(file.tokenizer, vocabulary[0], positions[0], pad="!")
    stored = _count(file.shapes, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
    # Stable Diffusion 2 reads the last layer but one, normalised: it is loaded without the last.
    layers = stored if projects else min(stored, _SD2_TEXT_LAYERS)
    config = _text_config(
        tokenizer,
        vocabulary=vocabulary,
        positions=positions[0],
        inner=_shape(file.shapes, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")[0],
        layers=layers,
        act="gelu",
        projection=_shape(file.shapes, f"{prefix}text_projection")[1] if projects else None,
    )
    kind = CLIPTextModelWithProjection if projects else CLIPTextModel

    def build(state: State) -> tuple[TextModel, list[str]]:
        module, unused = build_text_encoder(f"the text encoder in {file.path}", kind, config, state)
        return module, [name for name in unused if not name.startswith(f"encoder.layers.{layers}.")]

    return TextEncoder(tokenizer, file.part(prefix, open_clip_state, build), penultimate=projects)


def _text_config(
    tokenizer: Tokenizer,
    *,
    vocabulary: tuple[int, ...],
    positions: int,
    inner: int,
    layers: int,
    act: str,
    projection: int | None = None,
) -> CLIPTextConfig:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=vocabulary[0],
        hidden_size=vocabulary[1],
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=max(1, vocabulary[1] // _HEAD),
        max_position_embeddings=positions,
        hidden_act=act,
        projection_dim=projection or vocabulary[1],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _scheduler(header: Header, state: State, family: Family, notes: list[str]) -> dict[str, object]:
    config: dict[str, object] = {
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
