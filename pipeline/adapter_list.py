"""Lists of files in a setting: LoRAs with their strengths, learned words. Free of torch: settings check them."""

from __future__ import annotations

import re

# Beyond this a LoRA is noise, and a typing mistake more likely than a wish.
STRONGEST = 10.0

# (file, folder or hub name; strength)
Wanted = tuple[tuple[str, float], ...]


def parse_files(text: str) -> tuple[str, ...]:
    """The entries of ``text``, with semicolons or line ends between them."""
    return tuple(entry for part in re.split(r"[;\n]", text) if (entry := part.strip()))


def parse_loras(text: str) -> Wanted:
    """``path[:strength]`` entries as (path, strength) pairs; a strength that is left out is 1.

    Raises:
        ValueError: a strength is out of range.
    """
    wanted = []
    for entry in parse_files(text):
        path, _, number = entry.rpartition(":")
        strength = 1.0
        if path and re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*", number):
            entry, strength = path.strip(), float(number)
        if not -STRONGEST <= strength <= STRONGEST:
            raise ValueError(
                f"strength of {entry} is {strength:g}; it must be between {-STRONGEST:g} and {STRONGEST:g}"
            )
        wanted.append((entry, strength))
    return tuple(wanted)
