"""The pictures that a model is to look like: read, encoded once, and kept as keys and values."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.adapter_list import Wanted, parse_pictures
from pipeline.conditioning.attention import Attention, cross_attentions
from pipeline.conditioning.image_prompts import Look
from pipeline.conditioning.mixture import KeysValues
from pipeline.config import StreamConfig
from pipeline.models.errors import ModelError
from pipeline.models.families import Family, unsupported_by
from pipeline.models.image_encoder import ImageEncoder
from pipeline.models.ip_adapter import IpAdapter, IpAdapterFacts
from pipeline.models.ip_adapter_files import find_encoder, find_ip_adapter
from pipeline.models.modules import UNet
from pipeline.picture_file import PictureError, picture_tensor
from pipeline.user_path import user_path

# What an encoder has said of so many pictures is kept, for whoever goes back to one: a megabyte each at most.
_REMEMBERED = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    """An adapter that has been read, and what it makes of no picture."""

    adapter: IpAdapter
    encoder: Path
    attentions: Sequence[Attention]
    nothing: KeysValues

    def keys_values(self, encoded: torch.Tensor) -> KeysValues:
        return self.adapter.keys_values(encoded, self.attentions)


class Looks:
    """The pictures that one stream looks at.

    ``read`` and ``of`` may run on any thread, at any time; ``follow`` on the one that runs the stream, between calls.
    Nothing is kept on the device: the adapter is in main memory while it is in use, and its image encoder only while it
    runs.

    Args:
        unet: gives the UNet, which may have to be read first.
        width: of the tokens that its cross-attentions take, as its configuration has it.
        family: which kind of model it is.
    """

    def __init__(self, unet: Callable[[], UNet], width: int | Sequence[int], family: Family) -> None:
        self._unet, self._family = unet, family
        self._width = width if isinstance(width, int) else width[0]
        self._reading = threading.Lock()  # held while files are read
        self._changing = threading.Lock()  # held, for a moment, while what follows is changed
        self._adapters: dict[str, _Reading] = {}
        self._pictures: dict[tuple[str, str], KeysValues] = {}  # by adapter and file
        self._encoded: OrderedDict[tuple[str, bool, bytes], torch.Tensor] = OrderedDict()
        self._look: tuple[object, Look] | None = None  # the last one, and what it was made of

    @property
    def obstacle(self) -> str | None:
        """Why this model can look like no picture, in one sentence without a full stop; None where it can."""
        if self._family.ip_adapter:
            return None
        return unsupported_by(self._family).get("look_like") or (
            f"no IP-Adapter is known for this kind of model ({self._family.title}), so that it cannot look like a "
            "picture; load a Stable Diffusion 1 or SDXL model, or name an IP-Adapter that was made for it"
        )

    def is_ready(self, config: StreamConfig) -> bool:
        """Whether all that ``config`` asks for has been read."""
        wanted = _wanted(config)
        if not wanted:
            return True
        with self._changing:
            known = all((config.look_model, file) in self._pictures for file, _ in wanted)
            return known and config.look_model in self._adapters

    def read(self, config: StreamConfig) -> None:
        """Read and encode what ``config`` asks for and has not been read.

        Raises:
            ModelError: a picture, the adapter or its image encoder is missing, damaged, or made for another model.
        """
        wanted = _wanted(config)
        if self.is_ready(config):
            return
        with self._reading:
            # The pictures first: that one of them is none is found out without a download.
            absent = [file for file, _ in wanted if (config.look_model, file) not in self._pictures]
            pictures = [_read(file) for file in absent]
            _, found = self._keys_values(config.look_model, pictures)
            with self._changing:
                self._pictures |= {(config.look_model, file): one for file, one in zip(absent, found, strict=True)}

    def of(self, pictures: torch.Tensor, weights: Sequence[float] | None, look_model: str) -> Look:
        """The look of ``pictures`` (N, 3, H, W) in 0..1 by this adapter, each with its weight; by default all alike.

        Raises:
            ModelError: as ``read``.
            ValueError: the pictures or the weights are not as they must be.
        """
        if pictures.ndim != 4 or pictures.shape[1] != 3 or 0 in pictures.shape or not pictures.is_floating_point():
            raise ValueError(f"pictures must be (N, 3, H, W) float in 0..1, not {tuple(pictures.shape)}")
        shares = [1.0] * len(pictures) if weights is None else list(weights)
        if len(shares) != len(pictures) or not all(share >= 0 for share in shares) or not any(shares):
            raise ValueError(f"there are {len(pictures)} pictures, and the weights are {shares}; give one above 0 each")
        chosen = [number for number, share in enumerate(shares) if share > 0]
        with self._reading:
            reading, found = self._keys_values(look_model, [pictures[number].float().cpu() for number in chosen])
        return Look(found, [shares[number] for number in chosen], reading.nothing)

    def follow(self, config: StreamConfig, *, keep: bool) -> Look | None:
        """The look that ``config`` asks for, all of whose files have been read: the very same until it is another.

        What it does not need is let go, so that a file is read again when it is chosen again.

        Args:
            keep: the adapter is in use besides.
        """
        wanted = _wanted(config)
        with self._changing:
            used = bool(wanted) or keep
            self._adapters = {spec: one for spec, one in self._adapters.items() if used and spec == config.look_model}
            files = {(config.look_model, file) for file, _ in wanted}
            self._pictures = {place: one for place, one in self._pictures.items() if place in files}
            if not wanted:
                self._look = None
                return None
            pictures = [self._pictures[config.look_model, file] for file, _ in wanted]
            reading = self._adapters[config.look_model]
        made_of = (reading, wanted, [id(one) for one in pictures])
        if self._look is None or self._look[0] != made_of:
            self._look = made_of, Look(pictures, [share for _, share in wanted], reading.nothing)
        return self._look[1]

    def _keys_values(self, look_model: str, pictures: Sequence[torch.Tensor]) -> tuple[_Reading, list[KeysValues]]:
        """The adapter, and what it makes of each of the pictures; with ``_reading`` held."""
        reading = self._adapters.get(look_model) or self._read_adapter(look_model)
        encoded = self._encode(reading.encoder, pictures, pooled=reading.adapter.facts.pooled)
        found = [reading.keys_values(one) for one in encoded]
        with self._changing:
            self._adapters = {**self._adapters, look_model: reading}
        return reading, found

    def _read_adapter(self, look_model: str) -> _Reading:
        if not look_model and self.obstacle is not None:
            raise ModelError(self.obstacle)
        attentions = cross_attentions(self._unet())
        if not attentions:
            raise ModelError("this model has no attention to words that an IP-Adapter could be added to; load another")

        def obstacle(facts: IpAdapterFacts) -> str | None:
            return facts.obstacle(attentions, self._width)

        path = find_ip_adapter(look_model, self._family.ip_adapter, obstacle)
        encoder = find_encoder(path)
        adapter = IpAdapter(path)
        # As diffusers has it: no picture is an embedding of zeros, or what the encoder says of a picture of zeros.
        nothing = torch.zeros(1, adapter.facts.encoded) if adapter.facts.pooled else None
        if nothing is None:
            nothing = self._encode(encoder, [None], pooled=False)[0]
        return _Reading(adapter, encoder, attentions, adapter.keys_values(nothing, attentions))

    def _encode(self, folder: Path, pictures: Sequence[torch.Tensor | None], *, pooled: bool) -> list[torch.Tensor]:
        """What the encoder says of each picture, None being one of zeros; it is read where one is not remembered."""
        keys = [(str(folder), pooled, _digest(picture)) for picture in pictures]
        absent = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in self._encoded}
        if absent:
            encoder = ImageEncoder(folder)
            for key, picture in absent.items():
                self._encoded[key] = encoder(picture, pooled=pooled)
        found = [self._encoded[key] for key in keys]
        for key in keys:
            self._encoded.move_to_end(key)
        while len(self._encoded) > max(_REMEMBERED, len(keys)):
            self._encoded.popitem(last=False)
        return found


def _wanted(config: StreamConfig) -> Wanted:
    """Each picture that is looked at once, with its weight, which is above 0."""
    weights: dict[str, float] = {}
    for file, weight in parse_pictures(config.look_like):
        weights[file] = weights.get(file, 0.0) + weight
    return tuple((file, weight) for file, weight in weights.items() if weight > 0)


def _digest(picture: torch.Tensor | None) -> bytes:
    if picture is None:
        return b""
    shape = str(tuple(picture.shape)).encode()
    return hashlib.blake2b(picture.numpy().tobytes(), key=shape, digest_size=20).digest()


def _read(file: str) -> torch.Tensor:
    """(3, H, W) in 0..1 of a picture that a person names. Raises ``ModelError``."""
    try:
        return picture_tensor(user_path(file))
    except PictureError as error:
        raise ModelError(f"{str(error).rstrip('.')}; give a picture file, as in face.png") from error
