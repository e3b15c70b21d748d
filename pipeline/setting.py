"""A setting is one line of a frozen dataclass: default, range, unit, name on the screen, help and cost of a change.

The same line validates a value, writes the command line's help, draws the control in the window and says whether a
preset holds the value, so that these cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Default = TypeVar("Default")
Value = bool | int | float | str  # of a setting


class Cost(IntEnum):
    """What a change of a setting makes the engine do, from the cheapest to the dearest."""

    NOTHING = 0  # a number read at the next tick
    TABLES = 1  # new solver coefficients or noise; slots in flight are recomposed
    PROMPT = 2  # text encoder, and new cross-attention keys and values
    SLOTS = 3  # another number of slots or rows: new buffers, slots in flight kept where they can be
    MODEL = 4  # other weights


class Section(StrEnum):
    """Where among the controls a setting stands. The window shows the sections in this order."""

    LOOK = "Look"
    SHAPE = "Keep shape"
    REFERENCE = "Look like a picture"
    PERSON = "Person and background"
    SIMILAR = "Similar frames"
    VARIATION = "Variation"
    TEXT_TO_IMAGE = "Text to image"
    GUIDANCE = "Guidance"
    SAMPLING = "Sampling"
    MOTION = "Motion"
    ADD_ONS = "Add-ons"
    PICTURE = "Picture"
    ENGINE = "Engine"
    MORE = "More"  # what names no section
    ELSEWHERE = ""  # not among the controls: the prompts, the model


class Pick(StrEnum):
    """What a person chooses on the disk for a setting that names files."""

    PICTURE = "picture"
    WEIGHTS = "weights"
    FOLDER = "folder"


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """A setting has an effect only beside certain values of another one.

    Attributes:
        name: of the other.
        values: those beside which it has one; empty where it has one beside all but ``unless``.
        unless: see there.
    """

    name: str
    values: tuple[object, ...] = ()
    unless: object = None

    def met(self, value: object) -> bool:
        """Whether the setting has an effect beside this value of the other."""
        return value in self.values if self.values else value != self.unless


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Everything there is to know about one setting, apart from its value.

    Attributes:
        help: what it does, as one clause without a full stop.
        low, high, step: range and step of a number; None for no bound.
        unit: of a number, in the plural.
        choices: the values of a text that is one of a few; None for any text.
        cost: what a change makes the engine do.
        numbered: choices that may be followed by a number: ``cuda:1``.
        many: a text that lists several things, with semicolons between.
        parse: of a text with a form: raises ``ValueError`` with one sentence.
        label: its name on the screen; empty where the name of the field will do.
        section: where among the controls it stands.
        need: without which it has no effect.
        look: whether a change of it may change what a picture looks like.
        portable: whether a preset holds it: it does not belong to a machine or to a moment.
        reads_files: whether it may name files, which are read before it comes into force.
        open_value: what 0 stands for, in words, where 0 means that something else decides; empty elsewhere. Any other
            value is then at least ``least``, and a multiple of ``step``.
        least: see ``open_value``.
        offers: usual values of a text, to choose from; any other may be typed.
        form: how a text is written, in short, as ``HINT:WEIGHT``.
        pick: what is chosen for it on the disk; None where it names no file, or a file is only a part of it.
    """

    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] | None = None
    cost: Cost = Cost.NOTHING
    numbered: tuple[str, ...] = ()
    many: bool = False
    parse: Callable[[str], object] | None = None
    label: str = ""
    section: Section = Section.MORE
    need: Need | None = None
    look: bool = True
    portable: bool = True
    reads_files: bool = False
    open_value: str = ""
    least: int = 0
    offers: tuple[str, ...] = ()
    form: str = ""
    pick: Pick | None = None

    def problem(self, name: str, value: object, kind: type) -> str | None:
        """One sentence on why ``value`` cannot be taken, or None where it can."""
        label = name.replace("_", " ")
        if self.choices is not None:
            if value in self.choices or self._is_numbered_choice(value):
                return None
            return f"{label} is {value!r}; it must be one of {', '.join(self.choices)}"
        if kind in (bool, str):
            if isinstance(value, kind):
                return self._misspelt(value)
            return f"{label} is {value!r}; it must be a {_KINDS[kind]}"
        if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
            return f"{label} is {value!r}; it must be a {_KINDS[kind]}"
        below = self.low is not None and value < self.low
        above = self.high is not None and value > self.high
        if below or above or not math.isfinite(value):
            return f"{label} is {value}; it must be {self.span()}"
        if self.open_value and value and (value < self.least or value % (self.step or 1)):
            return f"{label} is {value}; it must be a multiple of {self.step:g} and at least {self.least:g} {self.unit}"
        return None

    def _misspelt(self, value: object) -> str | None:
        if self.parse is None:
            return None
        try:
            self.parse(str(value))
        except ValueError as error:
            return str(error)
        return None

    def _is_numbered_choice(self, value: object) -> bool:
        name, colon, number = str(value).partition(":")
        return isinstance(value, str) and bool(colon) and name in self.numbered and number.isdecimal()

    def span(self) -> str:
        """The range in words: ``between 0 and 1``."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"between {_number(self.low)} and {_number(self.high)}{unit}"
        if self.low is not None:
            return f"at least {_number(self.low)}{unit}"
        return f"at most {_number(self.high)}{unit}" if self.high is not None else "a finite number"


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_KINDS = {bool: "yes or no", str: "text", int: "whole number", float: "number"}


def setting(
    default: Default,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    choices: tuple[str, ...] | None = None,
    cost: Cost = Cost.NOTHING,
    numbered: tuple[str, ...] = (),
    many: bool = False,
    parse: Callable[[str], object] | None = None,
    label: str = "",
    section: Section = Section.MORE,
    need: Need | None = None,
    look: bool = True,
    portable: bool = True,
    reads_files: bool = False,
    open_value: str = "",
    least: int = 0,
    offers: tuple[str, ...] = (),
    form: str = "",
    pick: Pick | None = None,
) -> Default:
    """A dataclass field that knows everything about itself; see ``Setting`` for what the arguments mean."""
    known = Setting(
        help,
        low=low,
        high=high,
        step=step,
        unit=unit,
        choices=choices,
        cost=cost,
        numbered=numbered,
        many=many,
        parse=parse,
        label=label,
        section=section,
        need=need,
        look=look,
        portable=portable,
        reads_files=reads_files,
        open_value=open_value,
        least=least,
        offers=offers,
        form=form,
        pick=pick,
    )
    return dataclasses.field(default=default, metadata={"setting": known})


def described(config: DataclassInstance | type[DataclassInstance]) -> Iterator[tuple[str, type, Setting]]:
    """``(name, type, setting)`` of every described field of a dataclass or an instance of one."""
    for field in dataclasses.fields(config):
        if "setting" in field.metadata:
            yield field.name, type(field.default), field.metadata["setting"]


def check(config: DataclassInstance) -> None:
    """Raise ``ValueError`` with one sentence on the first setting that is out of its range."""
    for name, kind, known in described(config):
        problem = known.problem(name, getattr(config, name), kind)
        if problem:
            raise ValueError(problem)


def cost_of_change(old: DataclassInstance, new: DataclassInstance) -> Cost:
    """The dearest cost among the settings in which ``old`` and ``new`` differ."""
    return max(
        (known.cost for name, _, known in described(new) if getattr(old, name) != getattr(new, name)),
        default=Cost.NOTHING,
    )
