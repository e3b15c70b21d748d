"""A setting is one line of a frozen dataclass: default, range, unit, help text and the cost of changing it.

The same line validates a value, writes the command line's help, and draws the control in the window, so that the three
cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Default = TypeVar("Default")


class Cost(IntEnum):
    """What a change of a setting makes the engine do, from the cheapest to the dearest."""

    NOTHING = 0  # a number read at the next tick
    TABLES = 1  # new solver coefficients or noise; slots in flight are recomposed
    PROMPT = 2  # text encoder, and new cross-attention keys and values
    SLOTS = 3  # another number of slots or rows: new buffers, slots in flight kept where they can be
    MODEL = 4  # other weights


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Everything there is to know about one setting, apart from its value."""

    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] | None = None
    cost: Cost = Cost.NOTHING
    numbered: tuple[str, ...] = ()  # choices that may be followed by a number: ``cuda:1``
    many: bool = False  # a text that lists several things, with semicolons between
    parse: Callable[[str], object] | None = None  # of a text with a form: raises ValueError with one sentence

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
) -> Default:
    """A dataclass field that knows its own range, unit, help text and cost of change."""
    described = Setting(help, low, high, step, unit, choices, cost, numbered, many, parse)
    return dataclasses.field(default=default, metadata={"setting": described})


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
