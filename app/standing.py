"""What decides how a session runs: a person's choices, what the model recommends, and what memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from app.catalogue import catalogue, differences, matters, spoken, value_of, with_values
from app.settings import Settings, within_pixels
from pipeline.config import MEMORY_MODES
from pipeline.setting import Cost, Value

Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Limits:
    """What memory allows while it is short.

    Attributes:
        memory: the model gets by with no more than this one of ``MEMORY_MODES`` takes.
        frame_buffer: at most so many frames go through the model together; None for any number.
        pixels: at most so many in a picture; None for any number.
        model: the model for which they were found (see ``model_of``); they end with it.
    """

    memory: str = MEMORY_MODES[0]
    frame_buffer: int | None = None
    pixels: int | None = None
    model: tuple[Value, ...] = ()

    def applied_to(self, settings: Settings) -> Settings:
        """``settings`` that ask no more of the memory than this. A size that is left open is limited at capture."""
        mode = max(settings.memory, self.memory, key=MEMORY_MODES.index)
        together = settings.frame_buffer if self.frame_buffer is None else min(settings.frame_buffer, self.frame_buffer)
        width, height = settings.width, settings.height
        if width and height:
            width, height = within_pixels(width, height, self.pixels)
        return replace(settings, memory=mode, frame_buffer=together, width=width, height=height)

    def lower_than(self, wanted: Settings) -> dict[str, str]:
        """What is in force in the place of what is wanted, in words, by the name of the setting."""
        allowed = self.applied_to(wanted)
        lower = {name: str(getattr(allowed, name)) for name in ("memory", "frame_buffer", "width", "height")}
        lower = {name: words for name, words in lower.items() if words != str(getattr(wanted, name))}
        if self.pixels is not None and not (wanted.width and wanted.height):
            open_side = "width" if not wanted.width else "height"
            lower[open_side] = f"at most {self.pixels:,} pixels in a picture"
        return lower

    def without(self, names: Iterable[str]) -> Limits:
        """These limits, but for those on the settings of these names."""
        lifted = set(names)
        return Limits(
            MEMORY_MODES[0] if "memory" in lifted else self.memory,
            None if "frame_buffer" in lifted else self.frame_buffer,
            None if lifted & {"width", "height"} else self.pixels,
            self.model,
        )


NO_LIMITS = Limits()
# A change of one of these loads another model.
MODEL_SETTINGS = tuple(name for name, one in catalogue().items() if one.setting.cost is Cost.MODEL)


@dataclass(frozen=True)
class Refused:
    """A value that was chosen and could not be had: the setting is as it was before.

    Attributes:
        value: that could not be had.
        reason: one sentence for people.
    """

    value: Value
    reason: str


@dataclass(frozen=True)
class Standing:
    """How the settings stand. The choices are the person's own, and nobody else writes them.

    Attributes:
        chosen: what the person has chosen, by name, also where it equals the default.
        recommended: what the model, with its LoRAs, recommends for the rest.
        model: the name of that model, for people; empty before the first.
        limits: what memory allows.
        refused: choices that cannot be had, such as a LoRA whose file is damaged, by name. Their values stay chosen.
    """

    chosen: Values = field(default_factory=dict)
    recommended: Values = field(default_factory=dict)
    model: str = ""
    limits: Limits = NO_LIMITS
    refused: Mapping[str, Refused] = field(default_factory=dict)

    @cached_property
    def wanted(self) -> Settings:
        """The choices, over what the model recommends, over the defaults."""
        return with_values(self.unchosen, catalogue(), self.chosen)

    @cached_property
    def in_force(self) -> Settings:
        """The settings that coming frames are given: what is wanted, as far as memory allows."""
        return self.limits.applied_to(self.wanted)

    @cached_property
    def unchosen(self) -> Settings:
        """What the settings would be if nothing were chosen."""
        return with_values(Settings(), catalogue(), self.recommended)

    @property
    def limited(self) -> frozenset[str]:
        """The names of the settings that memory limits."""
        return frozenset(self.limits.lower_than(self.wanted))

    def shortage(self) -> str:
        """What memory does not allow of what is wanted, in one sentence; empty where it allows all."""
        known, lower = catalogue(), self.limits.lower_than(self.wanted)
        changes = []
        for name, words in lower.items():
            value = value_of(self.wanted, known[name])  # 0 for a side that is left open
            changes.append(f"{known[name].label.lower()} {spoken(value)} → {words}" if value else words)
        return f"While memory is short: {', '.join(changes)}." if changes else ""

    def adapted_since(self, before: Standing) -> dict[str, Value]:
        """What a recommendation has changed since ``before``: values that have an effect and that nobody chose."""
        known = catalogue()
        if self.recommended == before.recommended:
            return {}
        other = differences(before.in_force, self.in_force)
        return {
            name: value
            for name, value in other.items()
            if name in {*before.recommended, *self.recommended}
            and name not in self.chosen
            and matters(name, self.in_force, known)
        }

    def notes(self) -> dict[str, str]:
        """For each setting that is not in force as it was chosen: what is, and why, in one sentence."""
        notes = {name: f"{words} while memory is short." for name, words in self.limits.lower_than(self.wanted).items()}
        known = catalogue()
        for name, one in self.refused.items():
            if value_of(self.wanted, known[name]) == one.value:
                notes[name] = one.reason
        return notes


def choices_in(settings: Settings, also: Iterable[str] = ()) -> dict[str, Value]:
    """The choices that ``settings`` stand for where nothing says what was chosen: all that is not as by default.

    Args:
        also: names of settings that were chosen as they are.
    """
    known = catalogue()
    return differences(Settings(), settings) | {name: value_of(settings, known[name]) for name in also}


def model_of(settings: Settings) -> tuple[Value, ...]:
    """What of the settings says which weights run, where, and in which form."""
    known = catalogue()
    return tuple(value_of(settings, known[name]) for name in MODEL_SETTINGS)
