"""What is known of a model without its modules: all that a stream needs whose networks run on stored engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.conditioning.prompt_encoder import TextEncoder
from pipeline.models.autoencoder import AutoencoderFacts
from pipeline.models.families import FAMILIES, Family
from pipeline.models.model_parts import Parts
from pipeline.models.modules import AutoencoderModule, UNet, UNetConfig


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a model, on their device."""

    unet: UNet
    autoencoder: AutoencoderModule
    text_encoders: Sequence[TextEncoder]


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading a model has shown; JSON can hold all of it.

    Attributes:
        family: which kind it is.
        unet: the entries of its UNet's configuration that are read.
        unet_weights: how many weights the UNet has.
        autoencoder: what is known of the autoencoder to stream with.
        own_autoencoder: whether that is the one which came with the model.
        scheduler, names, raw_input, zero_negative, notes: see ``Parts``.
    """

    family: Family
    unet: UNetConfig
    unet_weights: int
    autoencoder: AutoencoderFacts
    own_autoencoder: bool
    scheduler: Mapping[str, object]
    names: str
    raw_input: bool
    zero_negative: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, parts: Parts, autoencoder: AutoencoderModule) -> Facts:
        """Those of a model that has been read."""
        config = {name: parts.unet.config.get(name) for name in UNetConfig.__annotations__}
        return cls(
            family=parts.family,
            unet=UNetConfig(**config),  # pyright: ignore[reportArgumentType]  # diffusers' class has them all
            unet_weights=sum(weights.numel() for weights in parts.unet.parameters()),
            autoencoder=AutoencoderFacts.of(autoencoder),
            own_autoencoder=autoencoder is parts.autoencoder,
            scheduler=parts.scheduler,
            names=parts.names,
            raw_input=parts.raw_input,
            zero_negative=parts.zero_negative,
            notes=tuple(parts.notes),
        )

    def written(self) -> dict[str, Any]:
        """As JSON has it; ``read`` gives the same facts again."""
        return {**asdict(self), "family": self.family.title}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Facts:
        """What ``written`` gave."""
        family = next(one for one in FAMILIES if one.title == written["family"])
        autoencoder = AutoencoderFacts(**written["autoencoder"])
        return cls(**{**written, "family": family, "autoencoder": autoencoder, "notes": tuple(written["notes"])})
