"""Styles in the words of a prompt: which ones are in it, and the prompt with another one. Free of Qt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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


def unknown(prompt: str, known: Sequence[Style]) -> list[str]:
    """The words of ``prompt`` that belong to no style that the model was taught, and so have no effect, in order.

    Small words that stand between others are not counted; a model that lists no styles takes any words.
    """
    taught = {word for style in known for text in (style.prompt, *style.wordings) for word in _words(text)}
    if not taught:
        return []
    return list(dict.fromkeys(word for word in _words(prompt) if word not in taught | _BETWEEN))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text.casefold())


# What stands between the words that say something, or says "a picture".
_BETWEEN = frozenset(
    _words(
        "a an the of in on at by to from for with without and or as like is it this that into my me your its style "
        "styled look looks looking made drawn painted drawing painting picture image art artwork portrait scene"
    )
)


def _without(prompt: str, style: Style) -> str:
    return _joined(_pattern(style).sub("", prompt).split(","))


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part.strip() for part in parts if part.strip())


def _pattern(style: Style) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(style.prompt)}(?!\w)", re.IGNORECASE)
