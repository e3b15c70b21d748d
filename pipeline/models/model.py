"""``Model``: what is known of a model, and its modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.diffusion.schedule import Schedule
from pipeline.models.adapters import Adapters
from pipeline.models.autoencoder import Autoencoder
from pipeline.models.bounds import Bounds
from pipeline.models.families import OTHER, Family, Hints
from pipeline.models.memory import WeightPlaces
from pipeline.models.modules import UNet
from pipeline.models.residency import Residency


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything that is the same for all streams of one model: facts and modules.

    No field ever changes. The weights inside of the modules may, and only the ``residency`` changes them.

    Attributes:
        name: for people, and for reports.
        unet: a ``UNet2DConditionModel`` in evaluation mode.
        autoencoder: pictures to latents and back.
        prompts: text to embeddings.
        schedule: the noise schedule, and what the UNet's output means.
        device, dtype: where and in which number format the parts are.
        dtype_asked: whether that number format was asked for: then no backend calculates in another.
        default_size: side in pixels that the model was made for.
        residency: the owner of the weights, which tells of every change of them.
        adapters: its LoRAs and learned words.
        memory: where its weights lie.
        notes: what was chosen or lacking while loading, in words that a user can act on.
        family: which kind of model it is.
        few_step: whether it was distilled to take a few steps without guidance.
        grid: how many timesteps it was distilled on, evenly spaced over the schedule; None where it knows them all.
        defaults: values of ``StreamConfig`` that suit it, by name.
        raw_input: the UNet sees the input latent as the full autoencoder gives it, before its scale (InstructPix2Pix).
        bounds: by part (``encoder``, ``decoder``, ``unet``), between which convolutions may calculate in eight bits.
    """

    name: str
    unet: UNet
    autoencoder: Autoencoder
    prompts: PromptEncoder
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    default_size: int
    residency: Residency
    adapters: Adapters
    memory: WeightPlaces
    dtype_asked: bool = False
    notes: tuple[str, ...] = ()
    family: Family = OTHER
    few_step: bool = False
    grid: int | None = None
    defaults: Hints = field(default_factory=Hints)
    raw_input: bool = False
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    @property
    def sees_input(self) -> bool:
        """Whether the UNet is also given the input latent (InstructPix2Pix layout: twice the latent channels)."""
        return self.unet.config["in_channels"] == 2 * self.autoencoder.latent_channels

    @property
    def input_scale(self) -> float:
        """What the input latent is multiplied with for a UNet that sees it."""
        return 1 / self.family.latent_scale if self.raw_input else 1.0

    @property
    def sized(self) -> bool:
        """Whether the UNet is told the size of the picture and a pooled embedding (SDXL)."""
        return self.unet.config["addition_embed_type"] == "text_time"

    @property
    def guidance_width(self) -> int:
        """Width of the embedding in which the UNet is told the guidance scale (LCM); 0 for one that is not told."""
        return int(self.unet.config["time_cond_proj_dim"] or 0)
