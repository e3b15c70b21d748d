"""The slots of a stream batch: tensors that every frame in flight has of its own, and that move along with it.

Each is registered once, as a ``Field``. A field that nobody needs is not registered, and so is neither stored nor
moved. Position k holds a frame that is about to take step k; position T holds the frame that finished last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

# left, top, right, bottom in pixels of the latent, right and bottom past the last; None stands for everywhere.
Area = tuple[int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class Field:
    """A tensor of each frame in flight.

    Attributes:
        name: what it is called.
        shape: of one frame's, (channels, height, width).
        takes: what it becomes when its frame moves one position on: the name of something that the step made, or of
            another field, or of its own, where it stays as it is.
        in_rows: it is a part of the denoiser's rows. All such fields lie side by side in one tensor, along the
            channels and in the order in which they are registered, so that no tick has to put them together.
        shown: the denoiser is handed it besides its rows, by name.
        whole: it is always written as a whole, as it may change where the latent does not.
    """

    name: str
    shape: tuple[int, int, int]
    takes: str
    in_rows: bool = False
    shown: bool = False
    whole: bool = False


class Slots:
    """The fields of all positions: for each a tensor (positions, frames, *shape).

    The tensors are written in place and never change their shape, so that a captured graph can run on them.

    Attributes:
        rows: (positions, frames, channels, height, width), the fields of the denoiser's rows side by side.
    """

    def __init__(self, positions: int, frames: int, fields: Sequence[Field], like: torch.Tensor) -> None:
        """All zero, on the device and in the number format of ``like``.

        Args:
            fields: one that takes another must come before it, or it would be handed what has just moved in there.
        """
        self._fields = tuple(fields)
        self._tensors: dict[str, torch.Tensor] = {}
        in_rows = [field for field in fields if field.in_rows]
        channels = [field.shape[0] for field in in_rows]
        size = in_rows[0].shape[1:]
        self.rows = torch.zeros(positions, frames, sum(channels), *size, device=like.device, dtype=like.dtype)
        for field, part in zip(in_rows, self.rows.split(channels, dim=2), strict=True):
            self._tensors[field.name] = part
        for field in fields:
            if not field.in_rows:
                self._tensors[field.name] = self.rows.new_zeros(positions, frames, *field.shape)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        """(positions, frames, *shape), to be written in place."""
        return self._tensors[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all fields."""
        return tuple(field.name for field in self._fields)

    def part(self, name: str, positions: slice | int, area: Area) -> torch.Tensor:
        """A field at these positions; within ``area`` where the field has the latent's size, else whole."""
        found = self._tensors[name][positions]
        if area is None or found.shape[-2:] != self.rows.shape[-2:]:
            return found
        left, top, right, bottom = area
        return found[..., top:bottom, left:right]

    def move(self, first: int, end: int, made: Mapping[str, torch.Tensor], area: Area) -> None:
        """Move the frames at positions ``first`` to ``end - 1`` one position on.

        Args:
            made: what the step made of them, by name, within ``area``; (end - first, frames, ...).
        """
        here, there = slice(first, end), slice(first + 1, end + 1)
        for field in self._fields:
            where = None if field.whole else area
            value = made.get(field.takes)
            if value is None:
                value = self.part(field.takes, here, where)
                if field.takes == field.name and end - first > 1:
                    value = value.clone()  # for what it is written to is, in part, what is read
            self.part(field.name, there, where).copy_(value)

    def laid_out(self, first: int, end: int, again: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """What the denoiser is handed of positions ``first`` to ``end - 1``: its rows, and by name what else is shown.

        Every row is a frame's at a position. The first ``again`` of them are there once more at the end, where rows are
        asked for under another prompt; ``again`` may exceed their number, and then they are repeated as often as it
        takes.
        """
        rows = repeated(self.rows[first:end].flatten(0, 1), again)
        shown = [field.name for field in self._fields if field.shown]
        return rows, {name: repeated(self._tensors[name][first:end].flatten(0, 1), again) for name in shown}


def repeated(rows: torch.Tensor, again: int) -> torch.Tensor:
    """``rows``, and after them the first ``again`` rows of as many repetitions of them as it takes."""
    if not again:
        return rows
    times, left = divmod(again, len(rows))
    return torch.cat([*(rows,) * (1 + times), *((rows[:left],) if left else ())])


def within(value: torch.Tensor, like: torch.Tensor, area: Area) -> torch.Tensor:
    """``area`` of a tensor that has the height and width of ``like``; others as they are."""
    if area is None or value.shape[-2:] != like.shape[-2:]:
        return value
    left, top, right, bottom = area
    return value[..., top:bottom, left:right]
