"""LoRA files: low-rank updates of a model's weights (arXiv 2106.09685), in every layout that is about.

=============  =====================================================  ==============================================
layout         example of a key                                       written by
=============  =====================================================  ==============================================
diffusers      ``unet.mid_block...to_q.lora_A.weight``                diffusers and PEFT, now
               ``unet.mid_block...to_q.lora.down.weight``             diffusers, before
               ``mid_block...processor.to_q_lora.down.weight``        diffusers, long before
kohya          ``lora_unet_mid_block_..._to_q.lora_down.weight``      kohya's scripts, LCM-LoRA, most shared files
               ``lora_unet_middle_block_1_..._to_q.lora_down.weight`` the same for SDXL, in the original names
ComfyUI        ``diffusion_model.middle_block.1...lora_up.weight``    ComfyUI
=============  =====================================================  ==============================================

Besides plain low-rank products, LyCORIS's Hadamard (LoHa) and Kronecker (LoKr) products (arXiv 2309.14859) are read,
and weight-decomposed updates (DoRA, arXiv 2402.09353), whose key ends in ``dora_scale`` or ``lora_magnitude_vector``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.models.errors import ModelError
from pipeline.models.parts import explained
from pipeline.models.weights import read_header

# The modules a file can speak of: "unet", "text" and "text_2"; each by its flat name (dots as underscores).
Targets = Mapping[str, Mapping[str, Any]]

_ROLE = re.compile(
    r"^(?P<stem>.+?)[._](?P<role>lora_A|lora_B|lora\.down|lora\.up|lora_down|lora_up|lora_mid|alpha|dora_scale|"
    r"lora_magnitude_vector|hada_[wt]\d(?:_[ab])?|lokr_[wt]\d(?:_[ab])?|diff|diff_b)(?:\.default(?:_\d)?)?(?:\.weight)?$"
)
_ROLES = {"lora_A": "down", "lora.down": "down", "lora_down": "down", "lora_mid": "mid"}
_ROLES |= {"lora_magnitude_vector": "magnitude"}
_ROLES |= {"lora_B": "up", "lora.up": "up", "lora_up": "up"}
_PARTS = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text"),
    ("lora_te2_", "text_2"),
    ("lora_te_", "text"),
    ("unet.", "unet"),
    ("diffusion_model.", "unet"),
    ("text_encoder_2.", "text_2"),
    ("text_encoder.", "text"),
    ("base_model.model.", "unet"),
    ("", "unet"),
)
_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The update of one layer, still in factors.

    Attributes:
        factors: by role: ``down``, ``up`` and ``mid``, or those of LyCORIS; ``dora_scale`` or ``magnitude`` of a DoRA.
        scale: alpha over rank.
    """

    factors: Mapping[str, torch.Tensor]
    scale: float

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """What is added to the model's own weight ``base`` at strength 1: float32, of its shape, on its device.

        Raises:
            RuntimeError: it was made for a layer of another shape.
        """
        factors = {role: tensor.to(base.device, torch.float32) for role, tensor in self.factors.items()}
        change = (_product(factors) * self.scale).reshape(base.shape)
        if "magnitude" in factors:
            return _decomposed(base.float(), change, factors["magnitude"], by_output=True)
        if "dora_scale" in factors:
            by_output = factors["dora_scale"].shape[:1] == base.shape[:1]
            return _decomposed(base.float(), change, factors["dora_scale"], by_output)
        return change


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """A LoRA file, matched to a model.

    Attributes:
        name: for people.
        updates: by part and flat name of the layer.
        notes: what of it could not be used.
    """

    name: str
    updates: Mapping[tuple[str, str], Update]
    notes: tuple[str, ...] = ()


def read_lora(path: Path, targets: Targets, layers_per_block: int = 2) -> Lora:
    """Read the LoRA in ``path`` for a model with these layers.

    Raises:
        ModelError: it is a pickle, damaged, no LoRA, or made for another model.
    """
    header = read_header(path)
    with explained(str(path)):
        from safetensors.torch import load_file

        state = load_file(path)
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        match = _ROLE.match(name)
        if match:
            role = match["role"]
            groups.setdefault(match["stem"], {})[_ROLES.get(role, role)] = tensor
    if not groups:
        raise ModelError(f"{path} is not a LoRA that is known here: its first key is {next(iter(state), 'missing')!r}")
    alphas = _written_alphas(header.metadata)
    updates: dict[tuple[str, str], Update] = {}
    unknown: list[str] = []
    for stem, group in groups.items():
        place = _place(stem, targets, layers_per_block)
        if place is None:
            unknown.append(stem)
            continue
        updates[place] = _update(path, stem, group, alphas.get(place[0]))
    _check(path, updates, unknown, targets)
    notes = [f"{path.name}: {len(unknown)} of {len(groups)} layers are not in this model; the others are used"]
    return Lora(path.stem, updates, tuple(notes if unknown else ()))


def is_lora(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names is a LoRA, of any kind that ``read_lora`` knows."""
    return any(_ROLE.match(name) for name in names)


def flat_modules(module: Any) -> dict[str, Any]:
    """The layers with weights of ``module`` by their flat names; CLIP's also without ``text_model``, and with it."""
    found = {}
    for name, layer in module.named_modules():
        if getattr(layer, "weight", None) is not None and name:
            flat = name.replace(".", "_")
            found[flat] = layer
    return found


def _place(stem: str, targets: Targets, layers_per_block: int) -> tuple[str, str] | None:
    """The part and the flat name of the layer that ``stem`` means, if the model has it."""
    prefix, part = next((prefix, part) for prefix, part in _PARTS if stem.startswith(prefix))
    flat = stem.removeprefix(prefix).replace(".", "_").replace("processor_", "")
    flat = re.sub(r"_to_out_lora$|_to_out$", "_to_out_0", flat)
    flat = re.sub(r"_(to_[qkv])_lora$", r"_\1", flat)
    names = [flat]
    if part == "unet":
        names.append(_from_original(flat, layers_per_block))
    else:
        names += [flat.removeprefix("text_model_"), f"text_model_{flat}"]
    for name in names:
        if name in targets.get(part, {}):
            return part, name
    return None


_RESNET = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}


def _from_original(flat: str, layers_per_block: int) -> str:
    """A UNet layer's flat name in the original layout as diffusers has it; any other name as it is."""
    if flat in _ENDS:
        return _ENDS[flat]
    if match := re.match(r"middle_block_([012])_(.+)", flat):
        number, rest = int(match[1]), match[2]
        if number == 1:
            return f"mid_block_attentions_0_{rest}"
        return f"mid_block_resnets_{number // 2}_{_RESNET.get(rest, rest)}"
    match = re.match(r"(input|output)_blocks_(\d+)_(\d)_(.+)", flat)
    if match is None:
        return flat
    down, number, place, rest = match[1] == "input", int(match[2]), int(match[3]), match[4]
    level, layer = divmod(number - 1 if down else number, layers_per_block + 1)
    if rest in ("op", "conv"):
        return f"down_blocks_{level}_downsamplers_0_conv" if down else f"up_blocks_{level}_upsamplers_0_conv"
    side = "down" if down else "up"
    if place:
        return f"{side}_blocks_{level}_attentions_{layer}_{rest}"
    return f"{side}_blocks_{level}_resnets_{layer}_{_RESNET.get(rest, rest)}"


def _decomposed(base: torch.Tensor, change: torch.Tensor, magnitude: torch.Tensor, by_output: bool) -> torch.Tensor:
    """DoRA (arXiv 2402.09353, eq. 5): the sum gives the direction of a weight, ``magnitude`` its length; less ``base``.

    Lengths are of what makes one output each, as PEFT has it; those of LyCORIS may be of one input each.
    """
    kept = 0 if by_output else 1
    others = [dim for dim in range(base.ndim) if dim != kept]
    direction = base + change
    lengths = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
    return magnitude.reshape(lengths.shape) * direction / lengths.clamp_min(1e-12) - base


def _update(path: Path, stem: str, group: dict[str, torch.Tensor], written_alpha: float | None) -> Update:
    alpha = group.pop("alpha", None)
    group.pop("diff_b", None)
    if not ({"down", "up"} <= set(group) or "diff" in group or any(role[:4] in ("hada", "lokr") for role in group)):
        raise ModelError(f"{path} is damaged: of {stem} it holds only {', '.join(sorted(group)) or 'its strength'}")
    rank = _rank(group)
    strength = float(alpha) if alpha is not None else written_alpha
    return Update(group, strength / rank if strength is not None and rank else 1.0)


def _rank(group: Mapping[str, torch.Tensor]) -> int:
    """The inner size of the product; 0 where there is none."""
    for role in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if role in group:
            return group[role].shape[0]
    return 0


def _product(factors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    if "diff" in factors:
        return factors["diff"]
    if "mid" in factors:  # a convolution as three (LoCon)
        up, down = factors["up"].flatten(1), factors["down"].flatten(1)
        return torch.einsum("ir,rs...,sj->ij...", up, factors["mid"], down)
    if "down" in factors:
        return factors["up"].flatten(1) @ factors["down"].flatten(1)
    if "hada_w1_a" in factors:
        return _factor(factors, "hada_w1", "hada_t1") * _factor(factors, "hada_w2", "hada_t2")
    first, second = _factor(factors, "lokr_w1", "lokr_t1"), _factor(factors, "lokr_w2", "lokr_t2")
    for _ in range(second.ndim - first.ndim):
        first = first.unsqueeze(-1)
    return torch.kron(first, second)


def _factor(factors: Mapping[str, torch.Tensor], name: str, core: str) -> torch.Tensor:
    if name in factors:
        return factors[name]
    left, right = factors[f"{name}_a"], factors[f"{name}_b"]
    if core in factors:
        return torch.einsum("rs...,ri,sj->ij...", factors[core], left, right)
    return left @ right.flatten(1) if right.ndim == 2 else torch.einsum("ir,r...->i...", left, right)


def _written_alphas(metadata: Mapping[str, str]) -> dict[str, float]:
    """The alpha of each part, where PEFT's configuration was kept in the file (diffusers from 0.34 on)."""
    try:
        written = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        names = {"unet": "unet", "text_encoder": "text", "text_encoder_2": "text_2"}
        return {
            part: float(written[f"{name}.lora_alpha"])
            for name, part in names.items()
            if f"{name}.lora_alpha" in written
        }
    except (ValueError, TypeError):
        return {}


def _check(path: Path, updates: Mapping[tuple[str, str], Update], unknown: list[str], targets: Targets) -> None:
    """Raise ``ModelError`` where the file was made for another model."""
    if not updates:
        raise ModelError(f"{path} was made for another kind of model: it has no layer {unknown[0]}")
    for (part, name), update in updates.items():
        weight = targets[part][name].weight
        try:
            update.delta(torch.empty_like(weight, device="meta"))
        except RuntimeError:
            down = update.factors.get("down")
            taken = down.shape[1] if down is not None and down.ndim > 1 else None
            made_for = _FAMILIES.get(taken or 0, "a model of other widths") if "attn2_to_k" in name else None
            raise ModelError(
                f"{path} was made for {made_for or 'another model'}: its {name} does not fit a weight of shape "
                f"{tuple(weight.shape)}"
            ) from None
