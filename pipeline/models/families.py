"""Families of models: how to tell them, and what suits each.

A family is told by the structure of the weights, never by their width, so that fine-tunes, distilled and reduced models
are recognised as well. Few-step models cannot be told by structure: their scheduler or their name says it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """What is the same for all models of one kind.

    Attributes:
        title: for people.
        size: side in pixels that the base model was made for.
        latent_scale: of the full autoencoder's latents.
        tiny_autoencoder: hub name of the matching tiny (distilled) autoencoder; empty where there is none.
        lcm_lora: hub name of the adapter that makes it a few-step model; empty where there is none.
    """

    title: str
    size: int
    latent_scale: float = 0.18215
    tiny_autoencoder: str = "madebyollin/taesd"
    lcm_lora: str = ""


VITRAIL = Family("Vitrail", 256, 1.0, "")
SD1 = Family("Stable Diffusion 1", 512, lcm_lora="latent-consistency/lcm-lora-sdv1-5")
SD2 = Family("Stable Diffusion 2", 512)
SDXL = Family("Stable Diffusion XL", 1024, 0.13025, "madebyollin/taesdxl", "latent-consistency/lcm-lora-sdxl")
PIX2PIX = Family("InstructPix2Pix", 512)
OTHER = Family("diffusion model", 512, 1.0, "")

# What a name says of a model that takes few steps, and what suits such a model.
_FEW_STEP_NAMES: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"lightning", {"solver": "euler", "steps": 4}),
    (r"hyper", {"solver": "ddim", "steps": 4}),
    (r"lcm|latent.?consistency|tcd", {"solver": "lcm", "steps": 4}),
    (r"turbo|dmd|flash|sdxs|schnell", {"solver": "lcm", "steps": 1}),
)


@dataclass(frozen=True, slots=True)
class Character:
    """What is known of one model, beyond its family.

    Attributes:
        few_step: distilled to take one to eight steps without guidance.
        hints: solver and steps that its name asks for.
    """

    few_step: bool
    hints: Mapping[str, Any]


def family_of(unet: Mapping[str, Any], pipeline_class: str = "") -> Family:
    """The family of a diffusers UNet configuration; ``pipeline_class`` is that of the folder's index."""
    added = unet.get("addition_embed_type")
    if added is not None:
        return {"text_time": SDXL, "text": VITRAIL}.get(added, OTHER)
    if "Pix2Pix" in pipeline_class:
        return PIX2PIX
    if unet.get("in_channels") != unet.get("out_channels"):
        return OTHER
    return SD2 if unet.get("use_linear_projection") else SD1


def character_of(names: str, scheduler: Mapping[str, Any], unet: Mapping[str, Any]) -> Character:
    """Whether a model takes few steps.

    Args:
        names: whatever it is called: hub name, folder, file, the name it was trained from.
        scheduler: its ``scheduler_config.json``.
        unet: its UNet's configuration.
    """
    for pattern, hints in _FEW_STEP_NAMES:
        if re.search(pattern, names, re.IGNORECASE):
            return Character(True, hints)
    kind = str(scheduler.get("_class_name", ""))
    if kind in ("LCMScheduler", "TCDScheduler") or unet.get("time_cond_proj_dim"):
        return Character(True, {"solver": "lcm", "steps": 4})
    # Turbo models come with an Euler scheduler that starts at the last timestep; base models do not.
    trailing = scheduler.get("timestep_spacing") == "trailing" and not scheduler.get("rescale_betas_zero_snr")
    if trailing and kind.startswith("Euler"):
        return Character(True, {"solver": "lcm", "steps": 1})
    return Character(False, {})


def tells_few_steps(name: str) -> bool:
    """Whether a model or an adapter of this name takes few steps."""
    return any(re.search(pattern, name, re.IGNORECASE) for pattern, _ in _FEW_STEP_NAMES)


# Of a model that takes many steps. In logSNR spacing DPM-Solver++ 2M is nearer to the true solution than in any other:
# at 8 to 12 steps three times as near as in trailing spacing (``python -m tests.benchmarks.solvers``).
# Guidance is left as it is, the look that these models are known for.
_MANY_STEPS: Mapping[str, Any] = {"steps": 10, "solver": "dpmpp-2m", "spacing": "logsnr", "guidance_rescale": 0.0}


def defaults_for(family: Family, character: Character) -> dict[str, Any]:
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
        return {"strength": 0.6, "guidance": "none", "guidance_scale": 1.0, "image_guidance": 1.0, **character.hints}
    return {
        **_MANY_STEPS,
        "strength": 0.6,
        "guidance": "full",
        "guidance_scale": 5.0,
        "image_guidance": 1.0,
    }
