"""Families of models: how to tell them, and what suits each.

A family is told by the structure of the weights, never by their width, so that fine-tunes, distilled and reduced models
are recognised as well. Few-step models cannot be told by structure: their scheduler or their name says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict

from pipeline.adapter_list import Wanted
from pipeline.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class Family:
    """What is the same for all models of one kind.

    Attributes:
        title: for people.
        size: side in pixels that the base model was made for.
        latent_scale: of the full autoencoder's latents.
        tiny_autoencoder: hub name of the matching tiny (distilled) autoencoder; empty where there is none.
        lcm_lora: hub name of the adapter that makes it a few-step model; empty where there is none.
        ip_adapter: the usual IP-Adapter, as ``owner/name/path`` on the hub; empty where there is none.
        adapters: hub names of the T2I-Adapters that are usual, by what they are shown (``pipeline.shape_list.HINTS``).
    """

    title: str
    size: int
    latent_scale: float = 0.18215
    tiny_autoencoder: str = "madebyollin/taesd"
    lcm_lora: str = ""
    ip_adapter: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict, hash=False)


# TencentARC's. There is none for Stable Diffusion 2 that is usual, and none at all for the embedded model.
_ADAPTERS_1 = {
    "canny": "TencentARC/t2iadapter_canny_sd15v2",
    "sketch": "TencentARC/t2iadapter_sketch_sd15v2",
    "depth": "TencentARC/t2iadapter_depth_sd15v2",
    "pose": "TencentARC/t2iadapter_openpose_sd14v1",
}
_ADAPTERS_XL = {
    "canny": "TencentARC/t2i-adapter-canny-sdxl-1.0",
    "sketch": "TencentARC/t2i-adapter-sketch-sdxl-1.0",
    "soft-edge": "TencentARC/t2i-adapter-sketch-sdxl-1.0",
    "depth": "TencentARC/t2i-adapter-depth-midas-sdxl-1.0",
    "pose": "TencentARC/t2i-adapter-openpose-sdxl-1.0",
}

_IP_ADAPTER = "h94/IP-Adapter/models/ip-adapter_sd15.safetensors"
# Of those for SDXL the one whose image encoder is the smaller, which that for Stable Diffusion 1 has as well.
_IP_ADAPTER_XL = "h94/IP-Adapter/sdxl_models/ip-adapter_sdxl_vit-h.safetensors"

VITRAIL = Family("Vitrail", 256, 1.0, "")
SD1 = Family(
    "Stable Diffusion 1",
    512,
    lcm_lora="latent-consistency/lcm-lora-sdv1-5",
    ip_adapter=_IP_ADAPTER,
    adapters=_ADAPTERS_1,
)
SD2 = Family("Stable Diffusion 2", 512)
SDXL = Family(
    "Stable Diffusion XL",
    1024,
    0.13025,
    "madebyollin/taesdxl",
    "latent-consistency/lcm-lora-sdxl",
    ip_adapter=_IP_ADAPTER_XL,
    adapters=_ADAPTERS_XL,
)
PIX2PIX = Family("InstructPix2Pix", 512, ip_adapter=_IP_ADAPTER, adapters=_ADAPTERS_1)
OTHER = Family("diffusion model", 512, 1.0, "")
FAMILIES = (VITRAIL, SD1, SD2, SDXL, PIX2PIX, OTHER)

# Steps that a model's scheduler was distilled on, where its configuration does not say (diffusers' LCMScheduler).
_CONSISTENCY_GRID = 50
# In place of a number: as many as the model takes steps.
_AS_MANY = 0
_MOST_STEPS = 16
# What suits a model that was distilled to be told its guidance scale.
_TOLD_GUIDANCE = 8.0


class Hints(TypedDict, total=False):
    """Values for settings of ``StreamConfig``, by their names."""

    strength: float
    steps: int
    solver: str
    spacing: str
    guidance: str
    guidance_scale: float
    guidance_rescale: float
    image_guidance: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """A way of making a model take few steps.

    Attributes:
        named: what its name looks like, in lower case; it stands apart from other letters.
        solver: the one that suits it.
        steps: how many it takes, where its name has no number of them.
        grid: timesteps over the whole schedule that it was distilled on; ``_AS_MANY`` as it takes steps, or None.
    """

    named: str
    solver: str
    steps: int
    grid: int | None = None


_LIGHTNING = _Kind(r"lightning", "euler", 4, _AS_MANY)
# Fine-tunes are called hyper-realistic and the like; the distilled ones are called Hyper-SD, or just hyper.
_HYPER = _Kind(r"hyper(?:[-_ ]?sd(?:xl|\d*)|(?![-_ ]?real))", "tcd", 4, _AS_MANY)
_TCD = _Kind(r"tcd", "tcd", 4, _CONSISTENCY_GRID)
_LCM = _Kind(r"lcm|latent.?consistency(?:[-_ ]?models?)?", "lcm", 4, _CONSISTENCY_GRID)
_ONE_STEP = _Kind(r"(?:sd(?:xl)?[-_ ]?)?turbo|dmd2?|flash[-_ ]?sd(?:xl|\d*)|sdxs|schnell", "lcm", 1)
_KINDS = (_LIGHTNING, _HYPER, _TCD, _LCM, _ONE_STEP)


@dataclass(frozen=True, slots=True)
class Character:
    """What is known of one model, beyond its family.

    Attributes:
        few_step: distilled to take one to eight steps without guidance.
        hints: solver and steps that suit it.
        grid: how many timesteps, evenly spaced over the whole schedule and ending with its last, it was distilled on;
            None where it takes any.
    """

    few_step: bool
    hints: Hints
    grid: int | None = None


def unsupported_by(family: Family) -> dict[str, str]:
    """Settings of a stream that have no effect on models of this family, by name, each with the reason.

    Each is one sentence for people without a full stop, as a control that is greyed out shows it.
    """
    if family is not VITRAIL:
        return {}
    other = "choose a Stable Diffusion model for it, such as SimianLuo/LCM_Dreamshaper_v7"
    return {
        "keep_shape": f"there is no T2I-Adapter or ControlNet for the embedded model; {other}",
        "look_like": f"there is no IP-Adapter for the embedded model; {other}",
    }


def check_channels(what: object, taken: int, given: int) -> None:
    """Refuse a UNet that is shown something which nothing here makes.

    Args:
        what: the model, for people.
        taken, given: its channels. It may be shown the latent alone, with the input latent (InstructPix2Pix), or with a
            mask and the masked latent (inpainting).

    Raises:
        ModelError: it is shown something else.
    """
    if taken not in (given, 2 * given, 2 * given + 1):
        kind = "a depth model" if taken == given + 1 else "of a kind that is not known here"
        raise ModelError(f"{what} is {kind}: its UNet takes {taken} channels and gives {given}; take the plain model")


def family_of(unet: Mapping[str, object], pipeline_class: str = "") -> Family:
    """The family of a diffusers UNet configuration; ``pipeline_class`` is that of the folder's index."""
    added = unet.get("addition_embed_type")
    if added is not None:
        return {"text_time": SDXL, "text": VITRAIL}.get(str(added), OTHER)
    if "Pix2Pix" in pipeline_class:
        return PIX2PIX
    taken, given = unet.get("in_channels"), unet.get("out_channels")
    inpaints = isinstance(given, int) and taken == 2 * given + 1
    if taken != given and not inpaints:
        return OTHER
    return SD2 if unet.get("use_linear_projection") else SD1


def character_of(names: str, scheduler: Mapping[str, object], unet: Mapping[str, object]) -> Character:
    """Whether a model takes few steps.

    Args:
        names: whatever it is called: hub name, folder, file, the name it was trained from.
        scheduler: its ``scheduler_config.json``.
        unet: its UNet's configuration.
    """
    steps = scheduler.get("original_inference_steps")
    written = steps if type(steps) is int and 1 <= steps <= 1000 else None
    character = _few_steps_of(names, scheduler, unet, written)
    if character is not None and unet.get("time_cond_proj_dim"):  # it is told the guidance, and needs some
        return replace(character, hints={**character.hints, "guidance_scale": _TOLD_GUIDANCE})
    return character or Character(False, {})


def _few_steps_of(
    names: str, scheduler: Mapping[str, object], unet: Mapping[str, object], written: int | None
) -> Character | None:
    named = _kind_of_name(names)
    if named is not None:
        return _character(named, names, written)
    kind = str(scheduler.get("_class_name", ""))
    if kind == "TCDScheduler":
        return _character(_TCD, "", written)
    if kind == "LCMScheduler" or unet.get("time_cond_proj_dim"):
        return _character(_LCM, "", written)
    # Turbo models come with an Euler scheduler that starts at the last timestep; base models do not.
    trailing = scheduler.get("timestep_spacing") == "trailing" and not scheduler.get("rescale_betas_zero_snr")
    if trailing and kind.startswith("Euler"):
        return _character(_ONE_STEP, "", None)
    return None


def character_of_name(name: str) -> Character | None:
    """What the name of a model or an adapter says of it; None where it does not say that it takes few steps."""
    kind = _kind_of_name(name)
    return None if kind is None else _character(kind, name, None)


def tells_few_steps(name: str) -> bool:
    """Whether a model or an adapter of this name takes few steps."""
    return _kind_of_name(name) is not None


def recommended_by_loras(loras: Wanted) -> Hints:
    """Values for the settings that suit a model with these LoRAs; none where none of them makes it take few steps."""
    characters = (character_of_name(name) for name, strength in loras if strength > 0)
    hints = next((one.hints for one in characters if one is not None), None)
    return {} if hints is None else {**_FEW_STEPS, "spacing": "trailing", **hints}


def _kind_of_name(name: str) -> _Kind | None:
    """The way in which a model of this name was made to take few steps.

    A word of the name counts where no other letters stand before or behind it, or where its own begin or end with a
    change of case: in ``sdxl_lightning_4step`` and ``v8LightningBaked``, but not in ``hyperrealism``.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    for kind in _KINDS:
        # As it is written, or with its words parted; "hyper" is too common to be parted from what follows it.
        for text in (name,) if kind is _HYPER else (name, spaced):
            if re.search(rf"(?<![a-z])(?:{kind.named})(?![a-z])", text, re.IGNORECASE):
                return kind
    return None


def _character(kind: _Kind, name: str, written: int | None) -> Character:
    """What suits a model of this ``kind`` and ``name``; ``written`` is the grid that its scheduler names, if any."""
    counted = re.search(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])", name, re.IGNORECASE)
    steps = min(max(int(counted[1]), 1), _MOST_STEPS) if counted else kind.steps
    grid = steps if kind.grid == _AS_MANY else kind.grid and (written or kind.grid)
    return Character(True, {"solver": kind.solver, "steps": steps}, grid)


# Of a model that takes many steps. In logSNR spacing DPM-Solver++ 2M is nearer to the true solution than in any other:
# at 8 to 12 steps three times as near as in trailing spacing (``python -m tests.benchmarks.solvers``).
# Guidance is left as it is, the look that these models are known for.
_MANY_STEPS: Hints = {"steps": 10, "solver": "dpmpp-2m", "spacing": "logsnr"}


# Of one that takes few: guidance was distilled into it.
_FEW_STEPS: Hints = {"guidance": "none", "guidance_scale": 1.0}


def defaults_for(family: Family, character: Character) -> Hints:
    """Values for the settings that suit the model; each is a default, which a user may change."""
    if family is OTHER:
        return {}
    if family is PIX2PIX:
        return {
            **_MANY_STEPS,
            "strength": 1.0,
            "guidance": "full",
            "guidance_scale": 7.5,
            "image_guidance": 1.5,
        }
    if character.few_step:
        return {"strength": 0.6, **_FEW_STEPS, "image_guidance": 1.0, **character.hints}
    return {
        **_MANY_STEPS,
        "strength": 0.6,
        "guidance": "full",
        "guidance_scale": 5.0,
        "image_guidance": 1.0,
    }
