"""``Model``: what is known of a model, and its modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.diffusion.schedule import Schedule
from pipeline.models.adapters import Adapters
from pipeline.models.autoencoder import Autoencoder
from pipeline.models.bounds import Bounds
from pipeline.models.controls import Controls
from pipeline.models.deferred import Deferred
from pipeline.models.facts import Modules
from pipeline.models.families import OTHER, Family, Hints, unsupported_by
from pipeline.models.kept_prompts import Projection
from pipeline.models.memory import WeightPlaces
from pipeline.models.modules import UNet, UNetConfig
from pipeline.models.residency import PARTS, Residency
from pipeline.models.start_record import StartRecord


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Everything that is the same for all streams of one model: facts and modules.

    No field ever changes. The weights inside of the modules may, and only the ``residency`` changes them. Where an
    earlier process has recorded what the files hold, the modules are read only once somebody needs one.

    Attributes:
        name: for people, and for reports.
        modules: UNet, autoencoder and text encoders; ``modules.made`` says whether they have been read.
        unet_config: what is read of the UNet's configuration.
        unet_weights: how many weights the UNet has.
        autoencoder: pictures to latents and back.
        prompts: text to embeddings.
        projection: embeddings to keys and values.
        schedule: the noise schedule, and what the UNet's output means.
        device, dtype: where and in which number format the parts are.
        dtype_asked: whether that number format was asked for: then no backend calculates in another.
        default_size: side in pixels that the model was made for.
        residency: the owner of the weights, which tells of every change of them.
        adapters: its LoRAs and learned words.
        controls: the T2I-Adapters and ControlNets that are used with it.
        memory: where its weights lie.
        notes: what was chosen or lacking while loading, in words that a user can act on.
        family: which kind of model it is.
        few_step: whether it was distilled to take a few steps without guidance.
        grid: how many timesteps it was distilled on, evenly spaced over the schedule; None where it knows them all.
        defaults: values of ``StreamConfig`` that suit it, by name.
        raw_input: the UNet sees the input latent as the full autoencoder gives it, before its scale (InstructPix2Pix).
        bounds: by part (``encoder``, ``decoder``, ``unet``), between which convolutions may calculate in eight bits.
        record: what the next process will know of its files; None where it would be of no use.
    """

    name: str
    modules: Deferred[Modules]
    unet_config: UNetConfig
    unet_weights: int
    autoencoder: Autoencoder
    prompts: PromptEncoder
    projection: Projection
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    default_size: int
    residency: Residency
    adapters: Adapters
    controls: Controls
    memory: WeightPlaces
    dtype_asked: bool = False
    notes: tuple[str, ...] = ()
    family: Family = OTHER
    few_step: bool = False
    grid: int | None = None
    defaults: Hints = field(default_factory=Hints)
    raw_input: bool = False
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    record: StartRecord | None = None

    @property
    def unet(self) -> UNet:
        """A ``UNet2DConditionModel`` in evaluation mode."""
        return self.modules.get().unet

    def digest(self, part: str, computed: Callable[[], str]) -> str:
        """``weights_digest`` of a part as it is now: the recorded one while the weights are those of the files.

        Args:
            part: ``DENOISER`` or ``AUTOENCODER``; of anything else (the person segmenter) nothing is recorded, as it is
                not in the model's files.
            computed: computes it; what it gives is recorded where it is of the files' weights.
        """
        if part not in PARTS:
            return computed()
        known = None if self.residency.revision(part) or self.record is None else self.record.digests.get(part)
        if known is not None:
            return known
        digest = computed()
        # Whoever changes weights counts the revision before the first of them is written.
        if self.record is not None and not self.residency.revision(part):
            self.record.add_digest(part, digest)
        return digest

    @property
    def unsupported(self) -> dict[str, str]:
        """See ``unsupported_by`` in ``pipeline.models.families``."""
        return unsupported_by(self.family)

    @property
    def sees_input(self) -> bool:
        """Whether the UNet is also given the input latent (InstructPix2Pix layout: twice the latent channels)."""
        return self.unet_config["in_channels"] == 2 * self.autoencoder.latent_channels

    @property
    def sees_mask(self) -> bool:
        """Whether the UNet is also given a mask and the masked latent (one channel and twice the latent channels)."""
        return self.unet_config["in_channels"] == 2 * self.autoencoder.latent_channels + 1

    @property
    def input_scale(self) -> float:
        """What the input latent is multiplied with for a UNet that sees it."""
        return 1 / self.family.latent_scale if self.raw_input else 1.0

    @property
    def sized(self) -> bool:
        """Whether the UNet is told the size of the picture and a pooled embedding (SDXL)."""
        return self.unet_config["addition_embed_type"] == "text_time"

    @property
    def guidance_width(self) -> int:
        """Width of the embedding in which the UNet is told the guidance scale (LCM); 0 for one that is not told."""
        return int(self.unet_config["time_cond_proj_dim"] or 0)
