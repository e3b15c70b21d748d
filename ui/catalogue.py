"""All settings as the window shows them: found by their metadata, so that a new one appears by itself. Free of Qt."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from app.settings import Settings
from pipeline.config import GUIDANCE_KINDS
from pipeline.setting import Cost, Setting

# Shown elsewhere than among the controls: words under the picture, the model in its own dialog.
ELSEWHERE = frozenset({"prompt", "negative_prompt", "prompt_b", "blend", "transition", "model"})


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
    default: Any

    @property
    def label(self) -> str:
        """What it is called on the screen."""
        return _LABELS.get(self.name) or self.name.replace("_", " ").capitalize()

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


@dataclass(frozen=True, slots=True)
class Group:
    """A section of the panel.

    Attributes:
        title: over it.
        names: of its settings, in order.
        stems: settings whose names begin so belong here, too.
        open: whether it is unfolded at first.
    """

    title: str
    names: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    open: bool = True


GROUPS = (
    Group("Look", ("strength", "steps", "seed"), ("style", "prompt")),
    Group("Similar frames", ("similarity_filter", "similarity_threshold", "similarity_skip_cap"), ("similarity",)),
    Group("Variation", ("seed_b", "seed_blend"), ("seed",), open=False),
    Group("Text to image", ("text_to_image", "seed_travel", "prompt_travel", "travel_frames"), open=False),
    Group(
        "Guidance",
        (
            "guidance",
            "guidance_scale",
            "guidance_rescale",
            "image_guidance",
            "delta",
            "attention_guidance",
            "attention_limit",
            "attention_blend",
            "solver",
            "spacing",
            "timesteps",
            "tcd_gamma",
        ),
        ("guidance", "solver", "sigma"),
        open=False,
    ),
    Group("Motion", ("reprojection", "steadiness"), ("stead", "reproject", "smooth", "flow"), open=False),
    Group("Add-ons", ("loras", "embeddings"), ("lora", "embedding"), open=False),
    Group("Picture", ("width", "height", "fit", "mirror"), open=False),
    Group(
        "Engine",
        ("device", "dtype", "acceleration", "memory", "frame_buffer"),
        ("accelerat", "sparse", "compile", "threads"),
        open=False,
    ),
)
MORE = Group("More", open=False)

_LABELS = {
    "similarity_filter": "Skip similar frames",
    "similarity_threshold": "Similar from",
    "similarity_skip_cap": "Skip at most",
    "guidance": "Kind",
    "guidance_scale": "Scale",
    "guidance_rescale": "Keep the contrast",
    "tcd_gamma": "New noise at each step",
    "timesteps": "Timesteps by hand",
    "attention_guidance": "Scale in attention",
    "attention_limit": "Limit in attention",
    "attention_blend": "Blend in attention",
    "dtype": "Number format",
    "seed_b": "Second seed",
    "seed_blend": "How much of it",
    "fit": "Other shapes",
    "text_to_image": "Words alone",
    "seed_travel": "Seed travels",
    "prompt_travel": "Swing to the second prompt",
    "travel_frames": "Way between two",
    "negative_prompt": "Away from",
    "frame_buffer": "Frames together",
}

_GUIDED = tuple(kind for kind in GUIDANCE_KINDS if kind != "none")
# What has no effect unless another setting has one of these values.
_NEEDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "similarity_threshold": ("similarity_filter", (True,)),
    "similarity_skip_cap": ("similarity_filter", (True,)),
    "guidance_scale": ("guidance", _GUIDED),
    "guidance_rescale": ("guidance", _GUIDED),
    "sparse_overlay": ("sparse", (True,)),
    "delta": ("guidance", ("self-negative", "onetime-negative")),
    "tcd_gamma": ("solver", ("tcd",)),
    "strength": ("timesteps", ("",)),
    "steps": ("timesteps", ("",)),
    "spacing": ("timesteps", ("",)),
}


def entries(kind: type = Settings, path: tuple[str, ...] = ()) -> dict[str, Entry]:
    """Every setting by name, those of the groups within included."""
    found: dict[str, Entry] = {}
    for field in dataclasses.fields(kind):
        if "setting" in field.metadata:
            known = field.metadata["setting"]
            found[field.name] = Entry(field.name, path, type(field.default), known, field.default)
        elif isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            found |= entries(field.default_factory, (*path, field.name))
    return found


def grouped(known: dict[str, Entry]) -> list[tuple[Group, list[Entry]]]:
    """The settings that have a control, section by section; what no section asks for is under ``MORE``."""
    left = {name: entry for name, entry in known.items() if name not in ELSEWHERE}
    sections: list[tuple[Group, list[Entry]]] = []
    named = {name: left.pop(name) for group in GROUPS for name in group.names if name in left}
    for group in GROUPS:
        mine = [named[name] for name in group.names if name in named]
        mine += [left.pop(name) for name in list(left) if name.startswith(group.stems or ("\0",))]
        if mine:
            sections.append((group, mine))
    if left:
        sections.append((MORE, list(left.values())))
    return sections


def matters(name: str, settings: Settings, known: dict[str, Entry]) -> bool:
    """Whether the setting has any effect beside the others as they are."""
    need = _NEEDS.get(name)
    if need is None or need[0] not in known:
        return True
    return value_of(settings, known[need[0]]) in need[1]


def value_of(settings: Settings, entry: Entry) -> Any:
    """The setting's value among ``settings``."""
    group: Any = settings
    for step in entry.path:
        group = getattr(group, step)
    return getattr(group, entry.name)


def with_values(settings: Settings, known: dict[str, Entry], **values: Any) -> Settings:
    """``settings`` with other values, all at once. Raises ``ValueError`` where one is out of its range."""
    by_path: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, value in values.items():
        entry = known[name]
        by_path.setdefault(entry.path, {})[name] = float(value) if entry.kind is float else value
    for path in sorted(by_path, key=len, reverse=True):
        settings = _replaced(settings, path, by_path[path])
    return settings


def _replaced(group: Any, path: tuple[str, ...], values: dict[str, Any]) -> Any:
    if not path:
        return dataclasses.replace(group, **values)
    inner = _replaced(getattr(group, path[0]), path[1:], values)
    return dataclasses.replace(group, **{path[0]: inner})


def spoken(value: Any) -> str:
    """A value as the screen says it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."
