"""Every setting by its name, those of the engine among those of the application, with all that is known of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from app.settings import Settings
from pipeline.setting import Cost, Section, Setting, Value


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting.

    Attributes:
        name: of the field; the same name is not used twice among all settings.
        path: names of the groups of settings around it, from the outside in.
        kind: ``bool``, ``int``, ``float`` or ``str``.
        setting: range, unit, help text, choices, cost of change.
        default: its value in new settings.
    """

    name: str
    path: tuple[str, ...]
    kind: type
    setting: Setting
    default: Value

    @property
    def label(self) -> str:
        """What it is called on the screen."""
        return self.setting.label or self.name.replace("_", " ").capitalize()

    @property
    def explanation(self) -> str:
        """Help text, range, default and cost, in sentences."""
        facts = [_sentence(self.setting.help)]
        if self.setting.choices is None and (self.setting.low is not None or self.setting.high is not None):
            facts.append(f"{self.setting.span().capitalize()}.")
        if self.default != "":
            facts.append(f"Default: {spoken(self.default)}.")
        if self.setting.cost is Cost.MODEL:
            facts.append("A change loads the model again; the picture goes on meanwhile.")
        return " ".join(facts)

    def problem(self, value: object) -> str | None:
        """One sentence on why the setting cannot have this value; None where it can."""
        return self.setting.problem(self.name, value, self.kind)

    def taken(self, value: Value) -> Value:
        """The value as the setting holds it: a whole number becomes a float where the setting is one."""
        return float(value) if self.kind is float else value


def entries(kind: type = Settings, path: tuple[str, ...] = ()) -> dict[str, Entry]:
    """Every setting by name, those of the groups within included."""
    found: dict[str, Entry] = {}
    for field in dataclasses.fields(kind):
        if "setting" in field.metadata:
            default: Any = field.default
            found[field.name] = Entry(field.name, path, type(default), field.metadata["setting"], default)
        elif isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            found |= entries(field.default_factory, (*path, field.name))
    return found


@cache
def catalogue() -> Mapping[str, Entry]:
    """The entries of ``Settings``, made once."""
    return entries()


def sections(known: Mapping[str, Entry]) -> list[tuple[Section, list[Entry]]]:
    """The settings that have a control, section by section, each in the order of the fields."""
    by_section = {one: [entry for entry in known.values() if entry.setting.section is one] for one in Section}
    return [(one, mine) for one, mine in by_section.items() if mine and one is not Section.ELSEWHERE]


def matters(name: str, settings: Settings, known: Mapping[str, Entry]) -> bool:
    """Whether the setting has any effect beside the others as they are."""
    need = known[name].setting.need
    return need is None or need.name not in known or need.met(value_of(settings, known[need.name]))


def value_of(settings: Settings, entry: Entry) -> Value:
    """The setting's value among ``settings``."""
    group: Any = settings
    for step in entry.path:
        group = getattr(group, step)
    return getattr(group, entry.name)


def with_values(settings: Settings, known: Mapping[str, Entry], values: Mapping[str, Value]) -> Settings:
    """``settings`` with other values, all at once. Raises ``ValueError`` where one is out of its range."""
    by_path: dict[tuple[str, ...], dict[str, Value]] = {}
    for name, value in values.items():
        entry = known[name]
        by_path.setdefault(entry.path, {})[name] = entry.taken(value)
    for path in sorted(by_path, key=len, reverse=True):
        settings = _replaced(settings, path, by_path[path])
    return settings


def differences(before: Settings, after: Settings) -> dict[str, Value]:
    """The values of ``after`` that are not those of ``before``, by name."""
    known = catalogue()
    return {name: value_of(after, one) for name, one in known.items() if value_of(after, one) != value_of(before, one)}


def spoken(value: Value) -> str:
    """A value as the screen says it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_words(values: Mapping[str, Value]) -> str:
    """Values with the names of their settings: ``steps 10, solver dpmpp-2m``."""
    return ", ".join(f"{name.replace('_', ' ')} {spoken(value)}" for name, value in values.items())


def _replaced(group: Any, path: tuple[str, ...], values: dict[str, Value]) -> Any:
    if not path:
        return dataclasses.replace(group, **values)
    inner = _replaced(getattr(group, path[0]), path[1:], values)
    return dataclasses.replace(group, **{path[0]: inner})


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
