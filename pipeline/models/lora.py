"""LoRA files, read for one model: which of its parameters they change, and by how much.

Every tensor of a file is accounted for: it is used, or a note says that it is not, and why. See ``lora_names`` for the
layouts that are known, and ``low_rank`` for what an update is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.models.errors import ModelError
from pipeline.models.lora_names import (
    Place,
    Targets,
    find_layer,
    flat_modules,
    is_lora,
    parse_key,
)
from pipeline.models.low_rank import Factors, Update, are_sound, rank_of, usable_roles
from pipeline.models.peft_strength import Strength, read_strengths
from pipeline.models.residency import DENOISER, TEXT, TEXT_2
from pipeline.models.weights import read_header, read_tensors, unused_note

__all__ = ["Lora", "Place", "Targets", "Update", "flat_modules", "is_lora", "read_lora"]

_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
# Learned words in the same file (kohya's and the web UIs' "bundles"): the word, and which text encoder's it is.
_WORD = re.compile(r"bundle_emb\.(?P<word>.+)\.(?P<of>clip_l|clip_g|emb_params|string_to_param\.\*)")
_WORD_PARTS = {"clip_g": TEXT_2}

_NO_LAYER = "this model has no such layer"
_NO_BIAS = "this model's layer has no bias"
_UNKNOWN = "nothing is known of what they are"
_TWICE = "the same layer is changed by others in the file"
_NO_WORD = "they stand for a word, and are not made for this model's text encoders"


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """A LoRA file, matched to a model.

    Attributes:
        name: for people.
        updates: by the parameter that each changes.
        words: words that are learned with it, with one (V, D) tensor for each text encoder.
        notes: what of it could not be used.
    """

    name: str
    updates: Mapping[Place, Update]
    words: Mapping[str, Sequence[torch.Tensor]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_lora(path: Path, targets: Targets, layers_per_block: int = 2) -> Lora:
    """Read the LoRA in ``path`` for a model with these layers.

    Args:
        path: a safetensors file.
        targets: the layers of the model's parts.
        layers_per_block: of its UNet.

    Raises:
        ModelError: it is a pickle, damaged, no LoRA, of a kind that cannot be applied, or made for another model.
    """
    header = read_header(path)
    state = read_tensors(path)
    strengths, notes = read_strengths(path, header.metadata)
    reader = _Reader(path, state, targets, layers_per_block, strengths)
    reader.read()
    for why, names in reader.unused.items():
        notes.append(unused_note(path.name, names, len(state), why))
    return Lora(path.stem, reader.updates, reader.words, tuple(notes))


class _Reader:
    """Sorts the tensors of a file into updates, words, and those that are not used.

    Attributes:
        updates: by place.
        words: by word.
        unused: names of tensors, by the reason why they are not used.
    """

    def __init__(
        self,
        path: Path,
        state: Mapping[str, torch.Tensor],
        targets: Targets,
        layers_per_block: int,
        strengths: Mapping[str, Strength],
    ) -> None:
        self.updates: dict[Place, Update] = {}
        self.words: dict[str, list[torch.Tensor]] = {}
        self.unused: dict[str, list[str]] = {}
        self._path = path
        self._state = state
        self._targets = targets
        self._layers_per_block = layers_per_block
        self._strengths = strengths

    def read(self) -> None:
        """Raises ``ModelError`` where the file as a whole cannot be used."""
        layers: dict[str, dict[str, list[str]]] = {}
        kinds: dict[str, str] = {}
        words: dict[str, dict[str, str]] = {}
        for name in self._state:
            if match := _WORD.fullmatch(name):
                words.setdefault(match["word"], {})[_WORD_PARTS.get(match["of"], TEXT)] = name
            elif key := parse_key(name):
                layers.setdefault(key.stem, {}).setdefault(key.role, []).append(name)
                kinds |= {key.stem: key.kind} if key.kind else {}
            else:
                self._leave([name], _UNKNOWN)
        if not layers and not words:
            first = next(iter(self._state), "missing")
            raise ModelError(f"{self._path} is not a LoRA that is known here: its first key is {first!r}")
        for stem, roles in layers.items():
            if stem in kinds:
                self._leave(_names(roles), _foreign(kinds[stem]))
            else:
                self._read_layer(stem, roles)
        for word, names in words.items():
            self._read_word(word, names)
        if not self.updates and not self.words:
            self._refuse(kinds)

    def _leave(self, names: Sequence[str], why: str) -> None:
        if names:
            self.unused.setdefault(why, []).extend(names)

    def _refuse(self, kinds: Mapping[str, str]) -> None:
        if kinds:
            raise ModelError(
                f"{self._path} is of a kind ({next(iter(kinds.values()))}) that is not known here; known are LoRA, "
                "LoHa, LoKr, DoRA and plain differences"
            )
        if _NO_LAYER in self.unused:
            first = self.unused[_NO_LAYER][0]
            raise ModelError(f"{self._path} was made for another kind of model: this one has no layer for {first}")
        why, names = next(iter(self.unused.items()))
        raise ModelError(f"{self._path} cannot be used: {names[0]} and the like are left out, as {why}")

    def _read_layer(self, stem: str, roles: Mapping[str, list[str]]) -> None:
        """Sort the tensors of one layer: ``roles`` has their names."""
        found = find_layer(stem, self._targets, self._layers_per_block)
        if found is None:
            self._leave(_names(roles), _NO_LAYER)
            return
        for _, *again in roles.values():
            self._leave(again, _TWICE)
        first = {role: names[0] for role, names in roles.items()}
        bias = first.pop("bias", None)
        if bias is not None:
            self._read_bias(Place(*found, "bias"), bias)
        if first:
            self._read_weight(Place(*found, "weight"), stem, first)

    def _read_bias(self, place: Place, name: str) -> None:
        if getattr(self._targets[place.part][place.layer], "bias", None) is None:
            self._leave([name], _NO_BIAS)
        elif place in self.updates:
            self._leave([name], _TWICE)
        else:
            factors = {"diff": self._state[name]}
            self._check_sound(factors, name)
            self._add(place, Update(factors, 1.0))

    def _read_weight(self, place: Place, stem: str, names: Mapping[str, str]) -> None:
        """The update of a weight out of the tensors that ``names`` has by role."""
        factors = {role: self._state[name] for role, name in names.items() if role != "alpha"}
        usable = usable_roles(frozenset(factors))
        if usable is None:
            held = ", ".join(names[role] for role in sorted(factors)) or "its strength"
            raise ModelError(f"{self._path} is damaged: of {stem} it holds only {held}; get the file again")
        if place in self.updates:
            self._leave(list(names.values()), _TWICE)
            return
        self._leave([names[role] for role in sorted(set(factors) - usable)], _TWICE)
        factors = {role: factors[role] for role in usable}
        self._check_sound(factors, names[min(usable)])
        scale = self._scale(place, stem, names.get("alpha"), rank_of(factors))
        self._add(place, Update(factors, scale))

    def _scale(self, place: Place, stem: str, alpha: str | None, rank: int) -> float:
        """Alpha over rank; 1 where either is not told."""
        if rank == 0:
            return 1.0
        if alpha is not None:
            if self._state[alpha].numel() != 1:
                raise ModelError(f"{self._path} is damaged: {alpha} must be one number; get the file again")
            return float(self._state[alpha]) / rank
        strength = self._strengths.get(place.part)
        return strength.scale(stem, rank) if strength else 1.0

    def _check_sound(self, factors: Factors, name: str) -> None:
        """Refuse what cannot be multiplied; one of the ``factors`` is called ``name``."""
        if not are_sound(factors):
            raise ModelError(f"{self._path} is damaged: {name} is no factor of an update; get the file again")

    def _add(self, place: Place, update: Update) -> None:
        """Keep ``update`` if it fits its place."""
        parameter = getattr(self._targets[place.part][place.layer], place.parameter)
        try:
            update.delta(torch.empty_like(parameter, device="meta"))
        except ValueError:
            raise ModelError(
                f"{self._path} was made for {_made_for(place, update)}: its {place.layer} does not fit a "
                f"{place.parameter} of shape {tuple(parameter.shape)}"
            ) from None
        self.updates[place] = update

    def _read_word(self, word: str, names: Mapping[str, str]) -> None:
        """A learned word; ``names`` has its tensor of each text encoder."""
        tables = {part: self._table(part) for part in (TEXT, TEXT_2) if part in self._targets}
        vectors = [self._state[names[part]] for part in tables if part in names]
        widths = [table.shape[-1] for table in tables.values()]
        fits = [vector.shape[-1] if vector.ndim == 2 else 0 for vector in vectors] == widths
        if fits and set(names) == set(tables) and len({len(vector) for vector in vectors}) == 1:
            self.words[word] = vectors
        else:
            self._leave(list(names.values()), _NO_WORD)

    def _table(self, part: str) -> torch.Tensor:
        """The token embedding of a text encoder."""
        layers = self._targets[part]
        return next(layer.weight for name, layer in layers.items() if name.endswith("token_embedding"))


def _names(roles: Mapping[str, list[str]]) -> list[str]:
    return [name for names in roles.values() for name in names]


def _foreign(kind: str) -> str:
    return f"they are of a kind ({kind}) that is not known here"


def _made_for(place: Place, update: Update) -> str:
    """What kind of model an update that does not fit was made for, as far as its width tells."""
    down = update.factors.get("down")
    if place.part == DENOISER and "attn2_to_k" in place.layer and down is not None and down.ndim > 1:
        return _FAMILIES.get(down.shape[1], "a model of other widths")
    return "another model"
