"""What a person has chosen, kept between two runs; and settings read back from whatever a file says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.catalogue import catalogue, with_values
from app.files import put_out_of_the_way
from app.json_files import DamagedError, few, read_json, write_json
from app.settings import Settings
from app.standing import Values, choices_in
from pipeline.setting import Value

# 1 held all settings, chosen or not, those of the engine in a group of their own.
_VERSION = 2


def save(chosen: Values, path: Path) -> None:
    """Write the choices as JSON, whole or not at all: a crash midway leaves the old file. Raises ``OSError``.

    Nothing else is written: what a model recommends and what memory allows is found anew at each start.
    """
    write_json(path, {"version": _VERSION, "chosen": dict(chosen)})


def load(path: Path) -> tuple[dict[str, Value], list[str]]:
    """Read choices back; what cannot be used is left out and named in the notes.

    Returns:
        The choices by name, and one sentence for people on each thing that was not taken as it stood. A missing file
        gives none and no note. A file that is no settings file is set aside (``.bad``), so that nothing is lost.
    """
    try:
        found = read_json(path)
    except FileNotFoundError:
        return {}, []
    except PermissionError as error:  # a save might well take its place
        return {}, [_set_aside(path, f"cannot be read ({error.strerror})")]
    except OSError as error:
        return {}, [f"The settings in {path} cannot be read ({error.strerror}); the defaults are used."]
    except DamagedError:
        return {}, [_set_aside(path)]
    if not isinstance(found, dict):
        return {}, [_set_aside(path)]
    if "version" not in found:  # the first edition's: what is as by default was not chosen
        values, notes = usable(found)
        return choices_in(with_values(Settings(), catalogue(), values)), few(notes)
    version, chosen = found["version"], found.get("chosen")
    if isinstance(version, int) and version > _VERSION:
        return {}, [_set_aside(path, "are of a newer version of Vitrail")]
    if version != _VERSION or not isinstance(chosen, dict):
        return {}, [_set_aside(path)]
    values, notes = usable(chosen)
    return values, few(notes)


def from_dict(found: Mapping[str, object]) -> tuple[Settings, list[str]]:
    """Settings with the values of ``found``, those of the engine in a group called ``stream``; and notes on the rest.

    This is the form in which pictures and presets hold them (``dataclasses.asdict``).
    """
    values, notes = usable(found)
    return with_values(Settings(), catalogue(), values), notes


def usable(found: Mapping[str, object]) -> tuple[dict[str, Value], list[str]]:
    """The values of ``found`` that this version can use, by name, and one sentence on each of the others."""
    known, notes = catalogue(), list[str]()
    groups = {step for entry in known.values() for step in entry.path}
    values: dict[str, Value] = {}
    for name, value in found.items():
        if name in groups and isinstance(value, dict):
            inner, more = usable({one: None if one in groups else of for one, of in value.items()})
            values |= inner
            notes += more
        elif name in groups:
            notes.append(f"The setting {name!r} is not a group of settings; the defaults are used.")
        elif name not in known:
            notes.append(f"The setting {name!r} is not known to this version; it is ignored.")
        elif problem := known[name].problem(value):
            notes.append(f"{problem}; the default is used.")
        elif isinstance(value, Value):
            values[name] = known[name].taken(value)
    return values, notes


def _set_aside(path: Path, why: str = "are damaged") -> str:
    """Move the file out of the way of the next save; what to say of it."""
    try:
        bad = put_out_of_the_way(path)
    except OSError as error:
        return f"The settings in {path} {why} and cannot be moved ({error.strerror}); the defaults are used."
    return f"The settings in {path} {why}; they are kept as {bad.name}, and the defaults are used."
