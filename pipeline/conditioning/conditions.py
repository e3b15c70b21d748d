"""Everything that a denoiser is told besides the noisy latents, as named tensors laid out over the rows of its call.

A *producer* makes the entries of one kind: prompts, the size of the picture, the guidance that a model is told, a
negative prompt within the attentions. A new kind of condition is a new producer; nothing else has to know of it. An
entry is *fixed* (the same for all rows: ``fixed``) or *per prompt* (``lay_out``); what belongs to a slot moves with its
frame and is carried by the stream batch (see ``pipeline.diffusion.slots``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pipeline.diffusion.guidance import RowLayout

# The inputs of a network in order: name, dtype and shape of each.
Signature = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one call of the denoiser.

    Attributes:
        layout: which prompt is for which rows.
        height, width: of the latents.
    """

    layout: RowLayout
    height: int
    width: int

    @property
    def count(self) -> int:
        """B, how many rows there are."""
        return sum(count for _, count in self.layout)


class Producer(Protocol):
    """Makes the entries of one kind."""

    @property
    def revision(self) -> int:
        """A number that differs after each change of what ``entries`` gives."""
        ...

    def entries(self, rows: Rows) -> Mapping[str, torch.Tensor]:
        """This kind's inputs for a call of these rows, (B, ...) each, by name; none where the kind is not in use."""
        ...


class Conditions(Mapping[str, torch.Tensor]):
    """The conditions of a call, by name. Not changed once made: another value is another object."""

    __slots__ = ("_tensors", "signature")

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = dict(tensors)
        self.signature = signature_of(self._tensors)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def signature_of(tensors: Mapping[str, torch.Tensor]) -> Signature:
    """Name, dtype and shape of each; that of ``Conditions`` is known beforehand."""
    if isinstance(tensors, Conditions):
        return tensors.signature
    return tuple((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items())


class Conditioning:
    """The entries of all producers, laid out once for each kind of call and kept until one of them changes."""

    def __init__(self, producers: Sequence[Producer]) -> None:
        self._producers = tuple(producers)
        self._revisions: tuple[int, ...] = ()
        self._entries: dict[tuple[int, Rows], tuple[int, Mapping[str, torch.Tensor]]] = {}
        self._laid_out: dict[Rows, Conditions] = {}

    def laid_out(self, rows: Rows) -> Conditions:
        """The conditions of a call of these rows; the very same object until something changes.

        Raises:
            ValueError: two producers give an entry of the same name.
        """
        revisions = tuple([producer.revision for producer in self._producers])
        if revisions != self._revisions:
            self._revisions = revisions
            self._laid_out.clear()
        found = self._laid_out.get(rows)
        if found is None:
            found = self._laid_out[rows] = self._collected(rows)
        return found

    def _collected(self, rows: Rows) -> Conditions:
        collected: dict[str, torch.Tensor] = {}
        for number, producer in enumerate(self._producers):
            known = self._entries.get((number, rows))
            if known is None or known[0] != producer.revision:
                for old in [key for key in self._entries if key[0] == number and key[1] not in self._laid_out]:
                    del self._entries[old]
                known = self._entries[number, rows] = producer.revision, producer.entries(rows)
            twice = collected.keys() & known[1].keys()
            if twice:
                raise ValueError(f"two producers give the condition {min(twice)!r}")
            collected |= known[1]
        return Conditions(collected)


def lay_out(prompts: Sequence[torch.Tensor], layout: RowLayout) -> torch.Tensor:
    """One tensor (1, ...) for each prompt, repeated as ``layout`` says; one prompt alone is repeated without a copy."""
    rows = [prompts[index].expand(count, *prompts[index].shape[1:]) for index, count in layout]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def fixed(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """(1, ...) to (B, ...), without a copy."""
    return tensor.expand(rows.count, *tensor.shape[1:])
