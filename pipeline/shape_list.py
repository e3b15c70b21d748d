"""What of the input's shape the picture keeps, as a setting: hints with weights and models. Free of torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.adapter_list import entries_of, unquoted

HINTS = ("canny", "sketch", "soft-edge", "depth", "pose", "mask")
MOST_WEIGHT = 2.0

_HINT = re.compile(r"([\w-]+)\s*(?::\s*(\S*))?")


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing to keep.

    Attributes:
        hint: one of ``HINTS``: which picture is made of each frame.
        weight: 0 to ``MOST_WEIGHT``.
        model: the T2I-Adapter or ControlNet that is shown it: a file, a folder or a hub name; empty for the T2I-Adapter
            that is usual for the model.
    """

    hint: str
    weight: float = 1.0
    model: str = ""


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """The entries of ``text``, each ``HINT[:WEIGHT] [@ MODEL]``, with semicolons or line ends between them.

    Raises:
        ValueError: an entry has no such form, an unknown hint, or a weight out of range.
    """
    return tuple(map(_shape, entries_of(text)))


def _shape(entry: str) -> Shape:
    told, at, model = entry.partition("@")
    model = unquoted(model.strip())
    match = _HINT.fullmatch(told.strip())
    if match is None or (at and not model):
        raise ValueError(f"keep shape is {entry!r}; it must be HINT:WEIGHT or HINT:WEIGHT @ MODEL, as in canny:0.8")
    hint, number = match.groups()
    if hint not in HINTS:
        raise ValueError(f"keep shape is {hint!r}; it must be one of {', '.join(HINTS)}")
    try:
        weight = 1.0 if number is None else float(number)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= MOST_WEIGHT:
        raise ValueError(f"the weight of {hint} is {number}; it must be between 0 and {MOST_WEIGHT:g}")
    return Shape(hint, weight, model)


# What the names of adapters and ControlNets say of the hint that they were trained on.
_SAID = {
    "canny": r"canny",
    "sketch": r"sketch|scribble|line ?art",
    "soft-edge": r"soft ?edge|hed|pidi",
    "depth": r"depth",
    "pose": r"pose",
    "mask": r"mask",
}


def hint_of_name(name: str) -> str:
    """The hint that an adapter or ControlNet of this name is shown; ``canny`` where the name does not say."""
    words = re.sub(r"[\W_]+", " ", name.lower())
    said = (
        hint for hint, pattern in _SAID.items() if re.search(rf"(?<![a-z])(?:open|dw)?(?:{pattern})(?![a-z])", words)
    )
    return next(said, "canny")
