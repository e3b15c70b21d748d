"""Styles in the words of a prompt: which ones are in it, and the prompt with another one. Free of Qt."""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.styles import Style


def has(prompt: str, style: Style) -> bool:
    """Whether the prompt names the style in the words that the model was taught."""
    return _pattern(style).search(prompt) is not None


def with_style(prompt: str, style: Style, known: Iterable[Style]) -> str:
    """The prompt with this style: in the place of another one, or before the rest; a tint goes to the end.

    A tint that is there already is taken out; any other words are kept.
    """
    alike = [other for other in known if other.tint == style.tint]
    if style.tint:
        rest = prompt
        for other in alike:
            rest = _without(rest, other)
        return rest if has(prompt, style) else _joined([rest, style.prompt])
    # The longest first: "a photo" is also how "a photo of a window" begins.
    for other in sorted(alike, key=lambda one: -len(one.prompt)):
        if has(prompt, other):
            return _pattern(other).sub(lambda _: style.prompt, prompt, count=1)
    tints = [other.prompt for other in known if other.tint and has(prompt, other)]
    return _joined([style.prompt, *tints])


def _without(prompt: str, style: Style) -> str:
    return _joined(_pattern(style).sub("", prompt).split(","))


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part.strip() for part in parts if part.strip())


def _pattern(style: Style) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(style.prompt)}(?!\w)", re.IGNORECASE)
