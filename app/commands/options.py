"""Command line flags, written by the settings themselves: name, type, range, help and default come from there."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any, NoReturn

from app.catalogue import catalogue, matters
from app.commands.misuse import Misuse
from app.settings import Settings, multiple_of_step
from pipeline.adapter_list import quoted
from pipeline.config import StreamConfig
from pipeline.setting import Setting, described
from pipeline.user_path import expanded


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose complaints are one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise ``Misuse``."""
        raise Misuse(f"{message} (see `{self.prog} --help`)")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` one flag for every setting."""
    _add_group(parser.add_argument_group("style"), StreamConfig)
    _add_group(parser.add_argument_group("picture and model"), Settings)


def settings_from(arguments: argparse.Namespace) -> tuple[Settings, list[str]]:
    """The settings that the flags ask for, the others at their defaults, and notes on what was rounded.

    Raises:
        Misuse: a value is outside its range.
    """
    notes: list[str] = []
    given = _given(arguments, Settings)
    for name, _, known in described(Settings):
        if known.open_value and name in given:
            given[name] = _side(name, given[name], known, notes)
    try:
        return Settings(stream=StreamConfig(**_given(arguments, StreamConfig)), **given), notes
    except ValueError as error:
        raise Misuse(str(error)) from error


def _add_group(group: Any, kind: type) -> None:
    for name, type_, known in described(kind):
        flag = _flag(name)
        default = next(field.default for field in dataclasses.fields(kind) if field.name == name)
        words = _help(known, type_, default)
        if known.many:
            # Once for each: --lora a.safetensors:0.8 --lora b.safetensors
            one = flag.removesuffix("s")
            group.add_argument(
                one, dest=name, action="append", metavar=known.form or "FILE", help=f"{words}; may be repeated"
            )
        elif type_ is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=words)
        else:
            metavar = known.form or ("WORDS" if "prompt" in name else name.rpartition("_")[2].upper())
            group.add_argument(flag, type=type_, metavar=metavar, help=words)


def _help(known: Setting, kind: type, default: object) -> str:
    facts = []
    if known.choices is not None:
        facts.append(" | ".join(known.choices))
    elif known.open_value:
        facts.append(f"at least {known.least} {known.unit}")
    elif known.low is not None or known.high is not None:
        facts.append(known.span())
    if kind is bool:
        facts.append("default: on" if default else "default: off")
    elif default != "":
        facts.append(f"default: {default}")
    text = f"{known.help} ({'; '.join(facts)})" if facts else known.help
    return text.replace("%", "%%")


def without_effect(arguments: argparse.Namespace, settings: Settings, live: bool) -> list[str]:
    """One sentence on each flag that was given and did nothing beside the others.

    Args:
        arguments: the command line.
        settings: what was run, with what the model recommends.
        live: whether the source is live, as a camera is.
    """
    known = catalogue()
    given = [name for name in known if getattr(arguments, name, None) is not None]
    notes = []
    for name in given:
        need = known[name].setting.need
        if need is not None and not matters(name, settings, known):
            wanted = " or ".join(_spoken(need.name, value) for value in need.values) or _flag(need.name)
            notes.append(f"{_flag(name)} had no effect: it needs {wanted}")
    if settings.reprojection != "auto" and "reprojection" in given and not live:
        notes.append(f"{_flag('reprojection')} had no effect: it is for sources that do not wait, as a camera")
    return notes


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _spoken(name: str, value: object) -> str:
    """How a value is given: ``--guidance full``, ``--sparse``, no ``--timesteps``."""
    if value is True:
        return _flag(name)
    return f"{_flag(name)} {value}" if value else f"no {_flag(name)}"


def chosen_in(arguments: argparse.Namespace) -> frozenset[str]:
    """Names of the settings that the command line names, so that no model's recommendation replaces them."""
    return frozenset({**_given(arguments, StreamConfig), **_given(arguments, Settings)})


def _given(arguments: argparse.Namespace, kind: type) -> dict[str, Any]:
    names = [name for name, _, _ in described(kind)]
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    return {name: "; ".join(map(_entry, value)) if isinstance(value, list) else value for name, value in given.items()}


def _entry(text: str) -> str:
    """One ``--lora``: a file where there is one of that name, its strength behind it or not; else a list of them."""
    if os.path.lexists(expanded(text)):
        return quoted(text)
    name, colon, strength = text.rpartition(":")
    return f"{quoted(name)}:{strength}" if colon and os.path.lexists(expanded(name)) else text


def _side(name: str, side: int, known: Setting, notes: list[str]) -> int:
    """The nearest side that can be; 0 leaves it open."""
    if not side:
        return 0
    if side < known.least:
        raise Misuse(f"{name} is {side}; it must be at least {known.least} pixels")
    if known.high is not None and side > known.high:
        raise Misuse(f"{name} is {side}; it must be at most {known.high:g} pixels")
    rounded = multiple_of_step(side)
    if rounded != side:
        notes.append(f"{name} {side} is taken as {rounded}, the nearest that the model can do")
    return rounded
