"""Looks as small text files that people can read, change and send each other.

A preset holds what makes the look (the engine's own settings and the picture's size), not what belongs to a machine or
to a moment: model, device, number format, mirror.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from app.catalogue import catalogue, value_of
from app.json_files import encodable, few, write_text
from app.settings import Settings, default_path
from app.settings_file import from_dict
from pipeline.setting import Setting, Value, described
from pipeline.whole_files import TooLargeError, read_whole

VERSION = 1
SUFFIX = ".toml"
_PICTURE = tuple(name for name, one in catalogue().items() if one.setting.portable and not one.path)
_LARGEST_FILE = 256 * 1024
_LONGEST_NAME = 120  # bytes of UTF-8; file systems take 255 with all that is added


class PresetError(Exception):
    """The preset cannot be read or written. The message is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A look with a name.

    Attributes:
        name: for people, one line.
        settings: of which ``look`` takes what makes the look.
    """

    name: str
    settings: Settings

    @property
    def look(self) -> dict[str, Value]:
        """The values that make the look, by name; model, device and the like are not among them."""
        return {name: value_of(self.settings, one) for name, one in catalogue().items() if one.setting.portable}


def presets_folder() -> Path:
    """Beside the settings; it need not be there yet."""
    return default_path().parent / "presets"


def to_text(preset: Preset) -> str:
    """The preset as TOML: each setting on a line of its own, in a fixed order, with its help and range."""
    lines = ["# A look for Vitrail. Lines that are missing keep their default.", f"vitrail-preset = {VERSION}"]
    lines += [f"name = {_quoted(preset.name)}", "", "[picture]"]
    lines += _lines(preset.settings, _PICTURE)
    for group, values in _groups(preset.settings).items():
        lines += ["", f"[{group}]", *_lines(values)]
    return "\n".join(lines) + "\n"


def from_text(text: str, name: str = "") -> tuple[Preset, list[str]]:
    """A preset of its text form, with one sentence on each thing in it that was not taken.

    Args:
        text: TOML.
        name: for a preset that has none inside.

    Raises:
        PresetError: the text is not TOML, or not a preset, or one of a newer version.
    """
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers too long to read
        raise PresetError(f"The preset cannot be understood: {error}.") from error
    version = found.pop("vitrail-preset", None)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PresetError("This is not a Vitrail preset: the line vitrail-preset = 1 is missing.")
    if version > VERSION:
        raise PresetError(f"This preset is of version {version}; this Vitrail knows up to {VERSION}. Update Vitrail.")
    title = found.pop("name", name)
    title = " ".join(title.split()) if isinstance(title, str) else name
    notes: list[str] = []
    picture = found.pop("picture", {})
    if not isinstance(picture, dict):
        notes.append("The setting 'picture' is not a group of settings; the defaults are used.")
        picture = {}
    groups = {key: found.pop(key) for key in list(found) if key in _groups(Settings())}
    strangers = [f"{key}" for key in found] + [f"picture.{key}" for key in picture if key not in _PICTURE]
    notes += [f"The setting {key!r} does not belong into a preset; it is ignored." for key in strangers]
    settings, more = from_dict(groups | {key: value for key, value in picture.items() if key in _PICTURE})
    return Preset(title or "Unnamed", settings), few(notes + more)


def load_preset(path: Path) -> tuple[Preset, list[str]]:
    """Read a preset file; the notes are those of ``from_text``. Raises ``PresetError``."""
    try:
        text = read_whole(path, _LARGEST_FILE).decode("utf-8-sig")
    except TooLargeError as error:
        raise PresetError(f"{path.name} is too large for a preset.") from error
    except OSError as error:
        raise PresetError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PresetError(f"{path.name} is not a text file.") from error
    try:
        return from_text(text, path.stem)
    except PresetError as error:
        raise PresetError(f"{path.name}: {error}") from error


def save_preset(preset: Preset, folder: Path | None = None, *, replace: bool = False) -> Path:
    """Write a preset as a file named after it.

    No other preset is ever written over: names that would make the same file ("ink/wash", "ink?wash") make two.

    Args:
        preset: what to write.
        folder: the user's own by default.
        replace: a preset of the very same name may be replaced; ask the user before.

    Returns:
        The file.

    Raises:
        PresetError: there is one of the same name that may not be replaced, or it cannot be written.
    """
    path, taken = _place(preset.name, folder or presets_folder())
    if taken and not replace:
        raise PresetError(f"There is a preset “{preset.name}” already; give this one another name.")
    try:
        write_text(path, to_text(preset))
    except OSError as error:
        raise PresetError(f"The preset {path} cannot be written: {error.strerror}.") from error
    return path


def is_taken(name: str, folder: Path | None = None) -> bool:
    """Whether there is a preset of this name."""
    return _place(name, folder or presets_folder())[1]


def list_presets(folder: Path | None = None) -> list[Path]:
    """The preset files of a folder by name; none where there is no folder."""
    try:
        return sorted((folder or presets_folder()).glob(f"*{SUFFIX}"), key=lambda path: path.stem.casefold())
    except OSError:
        return []


def import_preset(path: Path, folder: Path | None = None) -> tuple[Path, list[str]]:
    """Keep a preset that came from elsewhere, under a name that is free.

    Returns:
        The new file, and the notes of ``from_text``.

    Raises:
        PresetError: it is no preset, or cannot be written.
    """
    preset, notes = load_preset(path)
    name, number = preset.name, 1
    while is_taken(name, folder):
        number += 1
        name = f"{preset.name} {number}"
    return save_preset(replace(preset, name=name), folder), notes


def _groups(settings: Settings) -> dict[str, Any]:
    """The groups of settings within the settings, by name: the engine's, and whatever else there is."""
    inner = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: value for name, value in inner.items() if hasattr(value, "__dataclass_fields__")}


def _lines(group: Any, names: tuple[str, ...] | None = None) -> Iterator[str]:
    for name, _, known in described(group):
        if names is None or name in names:
            yield f"{name} = {_written(getattr(group, name))}  # {_comment(known)}"


def _comment(known: Setting) -> str:
    if known.choices is not None:
        return f"{known.help}: {', '.join(known.choices)}"
    if known.low is None and known.high is None:
        return known.help
    return f"{known.help}; {known.span()}"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # TOML's basic strings are JSON's, but for one more character that must be escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _place(name: str, folder: Path) -> tuple[Path, bool]:
    """The file for a preset of this name, and whether it holds that preset already; no other one is in it."""
    stem, wanted = _file_name(name), " ".join(encodable(name).split()).casefold()
    # Not all file systems tell small letters from large ones, and presets are passed on.
    there = {path.name.casefold(): path for path in list_presets(folder)}
    for number in itertools.count(1):
        path = folder / f"{stem if number == 1 else f'{stem} {number}'}{SUFFIX}"
        path = there.get(path.name.casefold(), path)
        if not os.path.lexists(path):
            return path, False
        try:
            if load_preset(path)[0].name.casefold() == wanted:
                return path, True
        except PresetError:
            continue  # it is the user's, whatever it is
    raise AssertionError("numbers never end")


def _file_name(name: str) -> str:
    """A name that every file system takes, as near to ``name`` as can be: Windows allows the least."""
    plain = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "", encodable(name)).strip(" .")
    plain = plain.encode()[:_LONGEST_NAME].decode(errors="ignore").strip(" .")
    reserved = re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", plain)
    return plain if plain and not reserved else f"preset {plain}".strip()
