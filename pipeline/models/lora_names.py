"""What the names of the tensors in a LoRA file say: which layer each belongs to, and what it is of its update.

=============  =====================================================  ==============================================
layout         example of a name                                      written by
=============  =====================================================  ==============================================
diffusers      ``unet.mid_block...to_q.lora_A.weight``                diffusers and PEFT, now
               ``unet.base_model.model.mid_block...lora_A.weight``    PEFT by itself
               ``unet.mid_block...to_q.lora.down.weight``             diffusers, before
               ``text_encoder...q_proj.lora_linear_layer.up.weight``  the same, of a text encoder
               ``mid_block...processor.to_q_lora.down.weight``        diffusers, long before
               ``text_encoder...self_attn.to_q_lora.down.weight``     the same, of a text encoder: means ``q_proj``
kohya          ``lora_unet_mid_block_..._to_q.lora_down.weight``      kohya's scripts, LCM-LoRA, most shared files
               ``lora_unet_middle_block_1_..._to_q.lora_down.weight`` the same for SDXL, in the original names
LyCORIS        ``lycoris_mid_block_..._to_q.lokr_w1``                 LyCORIS, SimpleTuner
ComfyUI        ``diffusion_model.middle_block.1...lora_up.weight``    ComfyUI
=============  =====================================================  ==============================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, cast

import torch
from torch import nn

from pipeline.models.original_layout import unet_name
from pipeline.models.residency import DENOISER, TEXT, TEXT_2


class Layer(Protocol):
    """A layer with weights; it has a bias as well, or not."""

    weight: torch.Tensor


# The layers a file can speak of, by part and flat name (dots as underscores).
Targets = Mapping[str, Mapping[str, Layer]]
# Where the prefix of a name does not say of which part it is, the first that has the layer.
LORA_PARTS = (DENOISER, TEXT, TEXT_2)


class Place(NamedTuple):
    """A parameter of the model that a LoRA can change.

    Attributes:
        part: ``denoiser``, ``text`` or ``text_2``.
        layer: the flat name of a layer: its name with underscores for the dots.
        parameter: ``weight`` or ``bias``.
    """

    part: str
    layer: str
    parameter: str


class Key(NamedTuple):
    """The name of a tensor, taken apart.

    Attributes:
        stem: names the layer.
        role: what the tensor is of the layer's update, as ``low_rank`` has it; or ``alpha``, ``bias`` (what is added to
            the bias), or ``foreign`` where it is of a kind that cannot be applied.
        kind: the name of that kind; else empty.
    """

    stem: str
    role: str
    kind: str = ""


_ROLES = {
    r"lora_A|lora[._]down|lora_linear_layer\.down": "down",
    r"lora_B|lora[._]up|lora_linear_layer\.up": "up",
    r"lora_mid": "mid",
    r"alpha": "alpha",
    r"dora_scale": "dora_scale",
    r"lora_magnitude_vector": "magnitude",
    r"hada_w1_a|hada_w1_b|hada_w2_a|hada_w2_b|hada_t1|hada_t2": "",  # called so here as well
    r"lokr_w1|lokr_w1_a|lokr_w1_b|lokr_w2|lokr_w2_a|lokr_w2_b|lokr_t1|lokr_t2": "",
    r"diff|w_norm": "diff",
    r"diff_b|b_norm": "bias",
}
# Kinds of adapters that change weights in another way than by adding to them.
_FOREIGN = {
    r"oft_blocks|oft_diag|oft_R|boft_blocks|boft_R": "OFT",
    r"a1|a2|b1|b2|bm1|bm2": "GLoRA",
    r"on_input|ia3_l": "IA3",
    r"vera_lambda_b|vera_lambda_d": "VeRA",
}
_END = r"(?:\.default(?:_\d+)?)?(?:\.weight)?"
_PATTERNS = tuple(
    (re.compile(rf"(?P<stem>.+?)[._](?P<role>{names}){_END}"), role, kind)
    for names, role, kind in (
        *((names, role, "") for names, role in _ROLES.items()),
        *((names, "foreign", kind) for names, kind in _FOREIGN.items()),
    )
)
# Beginnings of flat names, the longer ones first, and the parts that they may mean.
_PREFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("lora_unet_", (DENOISER,)),
    ("lora_te1_", (TEXT,)),
    ("lora_te2_", (TEXT_2,)),
    ("lora_te_", (TEXT,)),
    ("lycoris_", LORA_PARTS),
    ("unet_", (DENOISER,)),
    ("model_diffusion_model_", (DENOISER,)),
    ("diffusion_model_", (DENOISER,)),
    ("text_encoder_2_", (TEXT_2,)),
    ("text_encoder_", (TEXT,)),
    ("text_encoders_clip_l_transformer_", (TEXT,)),
    ("text_encoders_clip_g_transformer_", (TEXT_2,)),
    ("", LORA_PARTS),
)
_PEFT = "base_model_model_"


def parse_key(name: str) -> Key | None:
    """The name of a tensor in a LoRA file, taken apart; None where it is none that is known."""
    for pattern, role, kind in _PATTERNS:
        if match := pattern.fullmatch(name):
            return Key(match["stem"], role or match["role"], kind)
    return None


def is_lora(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names is a LoRA or one of its kin, whether it can be applied or not."""
    return any(parse_key(name) for name in names)


def flat_modules(module: nn.Module) -> dict[str, Layer]:
    """The layers with weights of ``module`` by their flat names."""
    return {
        name.replace(".", "_"): cast(Layer, layer)
        for name, layer in module.named_modules()
        if name and getattr(layer, "weight", None) is not None
    }


def find_layer(stem: str, targets: Targets, layers_per_block: int) -> tuple[str, str] | None:
    """The part and the flat name of the layer that ``stem`` means; None where the model has none such.

    Args:
        stem: from ``parse_key``.
        targets: the layers of the model.
        layers_per_block: of the UNet, by which the original names are counted.
    """
    flat = stem.replace(".", "_")
    prefix, parts = next((prefix, parts) for prefix, parts in _PREFIXES if flat.startswith(prefix))
    flat = flat.removeprefix(prefix).removeprefix(_PEFT)
    for part in parts:
        for name in _unet_names(flat, layers_per_block) if part == DENOISER else _text_names(flat):
            if name in targets.get(part, {}):
                return part, name
    return None


def _unet_names(flat: str, layers_per_block: int) -> tuple[str, ...]:
    """The names that a layer of the UNet may have."""
    plain = re.sub(r"_to_out$", "_to_out_0", flat.replace("processor_", ""))
    return plain, unet_name(flat, layers_per_block, "_")


def _text_names(flat: str) -> tuple[str, ...]:
    """The names that a layer of a text encoder may have."""
    plain = re.sub(r"_to_(q|k|v|out)$", r"_\1_proj", flat)
    return plain, plain.removeprefix("text_model_"), f"text_model_{plain}"
