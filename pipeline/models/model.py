"""``Model``: the bundle of loaded parts that a stream runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from pipeline.backends.backend import Backend
from pipeline.backends.eager import EagerBackend
from pipeline.backends.quantised import Bounds
from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.diffusion.schedule import Schedule
from pipeline.models.autoencoder import Autoencoder
from pipeline.models.families import OTHER, Family

if TYPE_CHECKING:
    from pipeline.models.adapters import Adapters
    from pipeline.models.memory import MemorySaver


@dataclass(slots=True, eq=False)
class Model:
    """Everything that is the same for all streams of one model.

    Attributes:
        name: for people, and for reports.
        unet: a ``UNet2DConditionModel`` in evaluation mode.
        autoencoder: pictures to latents and back.
        prompts: text to embeddings.
        schedule: the noise schedule, and what the UNet's output means.
        device, dtype: where and in which number format the parts are.
        default_size: side in pixels that the model was made for.
        notes: what was chosen or lacking while loading, in words that a user can act on.
        backend: what runs the networks; by default the modules themselves (see ``pipeline.backends``).
        family: which kind of model it is.
        few_step: whether it was distilled to take a few steps without guidance.
        defaults: values of ``StreamConfig`` that suit it, by name.
        adapters: its LoRAs and learned words.
        raw_input: the UNet sees the input latent as the full autoencoder gives it, before its scale (InstructPix2Pix).
        memory: how much memory it takes, and how to make that less.
        bounds: by part (``encoder``, ``decoder``, ``unet``), between which convolutions may calculate in eight bits.
    """

    name: str
    unet: Any
    autoencoder: Autoencoder
    prompts: PromptEncoder
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    default_size: int
    notes: list[str] = field(default_factory=list)
    backend: Backend = None  # type: ignore[assignment]
    family: Family = OTHER
    few_step: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    raw_input: bool = False
    adapters: Adapters = None  # type: ignore[assignment]
    memory: MemorySaver = None  # type: ignore[assignment]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from pipeline.models.adapters import Adapters
        from pipeline.models.memory import MemorySaver

        if self.backend is None:
            self.backend = EagerBackend(self)
        if self.adapters is None:
            self.adapters = Adapters(self.unet, self.prompts, self.family, self.few_step)
        if self.memory is None:
            self.memory = MemorySaver(self)

    @property
    def acceleration(self) -> str:
        """Which backend runs the networks."""
        return self.backend.name

    @property
    def networks(self) -> Backend:
        """What runs the networks now: the backend or, where memory is saved, the modules themselves in slices."""
        from pipeline.models.memory import SlicedBackend

        return self.backend if self.memory.mode == "full" else SlicedBackend(self)

    @property
    def sees_input(self) -> bool:
        """Whether the UNet is also given the input latent (InstructPix2Pix layout: twice the latent channels)."""
        return self.unet.config.in_channels == 2 * self.autoencoder.latent_channels

    @property
    def input_scale(self) -> float:
        """What the input latent is multiplied with for a UNet that sees it."""
        return 1 / self.family.latent_scale if self.raw_input else 1.0

    @property
    def sized(self) -> bool:
        """Whether the UNet is told the size of the picture and a pooled embedding (SDXL)."""
        return self.unet.config.addition_embed_type == "text_time"
