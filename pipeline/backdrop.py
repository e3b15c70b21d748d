"""What stands behind the person, as a setting: the room as it is, blurred, a colour, a picture, nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

COLOURS = {
    "black": "#000000",
    "white": "#ffffff",
    "grey": "#808080",
    "green": "#00ff00",
    "blue": "#0000ff",
    "magenta": "#ff00ff",
}
USUAL_BLUR = 12.0  # pixels
MOST_BLUR = 100.0


class Behind(Enum):
    """The kinds of background."""

    AS_IT_IS = "as it is"
    BLUR = "blur"
    NOTHING = "nothing"
    COLOUR = "colour"
    PICTURE = "picture"


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What stands behind the person.

    Attributes:
        kind: which of these.
        blur: standard deviation in pixels of the picture; of ``BLUR`` alone.
        colour: red, green and blue, 0..255 each; of ``COLOUR`` alone.
        path: a file as people give it; of ``PICTURE`` alone.
    """

    kind: Behind = Behind.AS_IT_IS
    blur: float = 0.0
    colour: tuple[int, int, int] = (0, 0, 0)
    path: str = ""


def parse_backdrop(text: str) -> Backdrop:
    """``text`` as a background: empty, ``blur``, ``blur:20``, ``none``, a colour (``#00ff00``, ``green``), or a file.

    Raises:
        ValueError: the blur is out of range, or the colour is not six hexadecimal digits.
    """
    text = text.strip()
    if not text:
        return Backdrop()
    if text == "none":
        return Backdrop(Behind.NOTHING)
    name, colon, number = text.partition(":")
    if name == "blur":
        return Backdrop(Behind.BLUR, blur=_blur(number) if colon else USUAL_BLUR)
    digits = COLOURS.get(text, text)
    if digits.startswith("#"):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", digits):
            raise ValueError(f"background is {text!r}; a colour must be # and six hexadecimal digits, as in #00ff00")
        red, green, blue = bytes.fromhex(digits[1:])
        return Backdrop(Behind.COLOUR, colour=(red, green, blue))
    return Backdrop(Behind.PICTURE, path=text)


def _blur(number: str) -> float:
    try:
        blur = float(number)
    except ValueError:
        blur = -1.0
    if not 0 < blur <= MOST_BLUR:
        raise ValueError(f"background blur is {number!r}; it must be above 0 and at most {MOST_BLUR:g} pixels")
    return blur
