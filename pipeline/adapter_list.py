"""Lists of files in a setting: LoRAs with their strengths, learned words. Free of torch: settings check them."""

from __future__ import annotations

import re

# Beyond this a LoRA is noise, and a typing mistake more likely than a wish.
STRONGEST = 10.0

# (file, folder or hub name; strength)
Wanted = tuple[tuple[str, float], ...]


# Between two entries stand semicolons or line ends. In double quotes these are part of a name, and "" is a quote.
_ENTRY = re.compile(r'(?:"(?:[^"]|"")*"|[^;\n])+')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_STRENGTH = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)\s*")


def parse_files(text: str) -> tuple[str, ...]:
    """The entries of ``text``, with semicolons or line ends between them."""
    return tuple(map(unquoted, entries_of(text)))


def entries_of(text: str) -> tuple[str, ...]:
    """The entries of ``text`` as they are written, quotes and all."""
    return tuple(filter(None, map(str.strip, _ENTRY.findall(text))))


def quoted(name: str) -> str:
    """``name`` as an entry that is read back as it is, whatever is in it."""
    number = _STRENGTH.fullmatch(name.rpartition(":")[2])
    if name == name.strip() and not re.search('[;\n"]', name) and not number:
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def parse_loras(text: str) -> Wanted:
    """``path[:strength]`` entries as (path, strength) pairs; a strength that is left out is 1.

    Raises:
        ValueError: a strength is out of range.
    """
    wanted = []
    for part in entries_of(text):
        path, _, number = part.rpartition(":")
        entry, strength = unquoted(part), 1.0
        if path and _STRENGTH.fullmatch(number) and not _QUOTED.fullmatch(part):
            entry, strength = unquoted(path.strip()), float(number)
        if not -STRONGEST <= strength <= STRONGEST:
            raise ValueError(
                f"strength of {entry} is {strength:g}; it must be between {-STRONGEST:g} and {STRONGEST:g}"
            )
        wanted.append((entry, strength))
    return tuple(wanted)


def parse_pictures(text: str) -> Wanted:
    """``path[:weight]`` entries as (path, weight) pairs; a weight that is left out is 1.

    Raises:
        ValueError: a weight is out of range.
    """
    wanted = parse_loras(text)
    for path, weight in wanted:
        if weight < 0:
            raise ValueError(f"weight of {path} is {weight:g}; it must be between 0 and {STRONGEST:g}")
    return wanted


def unquoted(entry: str) -> str:
    """The name that ``quoted`` was given."""
    match = _QUOTED.fullmatch(entry)
    return match[1].replace('""', '"') if match else entry
