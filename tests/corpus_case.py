"""One input of the corpus: how it is made, and what it must come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Says:
    """The input cannot be used, and one sentence says so, in which the pattern ``words`` is found."""

    words: str


@dataclass(frozen=True, slots=True)
class Frames:
    """The input gives so many frames.

    Attributes:
        count: how many.
        size: (width, height) in pixels of the first.
        colours: of the first frame by place (x, y), right to ``within`` of 255.
        said: pattern of the sentence on what was left out; empty where there must be none.
        firsts: colour of the upper left pixel of each frame, where these differ.
        times: seconds at which the frames are shown, where the file says.
    """

    count: int = 1
    size: tuple[int, int] | None = None
    colours: Mapping[tuple[int, int], Colour] = field(default_factory=dict)
    within: int = 2
    said: str = ""
    firsts: tuple[Colour, ...] = ()
    times: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Values:
    """The input gives these values by name, all others at their default, and one note for each pattern."""

    values: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ends:
    """A command ends with ``code``, says ``words`` (a pattern), and leaves ``files`` and nothing else that is new."""

    code: int
    words: str
    files: tuple[str, ...] = ()


Right = Says | Frames | Values | Ends | str


@dataclass(frozen=True, slots=True)
class Case:
    """One input.

    Attributes:
        kind: by which door it comes in.
        name: what is special about it.
        make: writes it into an empty folder, and gives what the door takes: a path, mostly.
        right: what it must come to.
    """

    kind: str
    name: str
    make: Callable[[Path], object]
    right: Right
