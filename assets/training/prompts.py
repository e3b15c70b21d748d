"""Sentences: random prompts with known style and tint, for training; fixed lists of them, for tests."""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from assets.training.vocabulary import (
    ADJECTIVES,
    PLAIN_TEMPLATES,
    STYLES,
    SUBJECTS,
    TEMPLATES,
    TINT_TEMPLATES,
    TINTS,
)

STYLE_IDS = tuple(STYLES)
TINT_IDS = tuple(TINTS)
HELD_OUT = frozenset(text for group in (STYLES, TINTS) for phrases in group.values() for text in phrases.held_out)


@dataclass(frozen=True)
class Prompt:
    """A text and what it asks for: positions in STYLE_IDS and TINT_IDS."""

    text: str
    style: int
    tint: int


def _pick(random: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(random.integers(len(options)))]


def _bare(phrase: str) -> str:
    """Without its article, so that it fits behind an adjective."""
    for article in ("a ", "an ", "the "):
        if phrase.startswith(article):
            return phrase[len(article) :]
    return phrase


def _fill(random: np.random.Generator, template: str, phrase: str, words: tuple[str, ...]) -> str:
    """Put the style phrase, subjects, adjectives and random words into a template."""
    text = template
    if "{a} {s}" in text or random.random() < 0.25:
        phrase = _bare(phrase)
    text = text.replace("{s}", phrase)
    while "{x}" in text:
        text = text.replace("{x}", _pick(random, SUBJECTS), 1)
    while "{a}" in text:
        text = text.replace("{a}", _pick(random, ADJECTIVES), 1)
    while "{r}" in text:
        text = text.replace("{r}", _pick(random, words) if words else "thing", 1)
    return text


def _misspell(random: np.random.Generator, text: str) -> str:
    """One slip of the finger in one longer word."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    index = long[int(random.integers(len(long)))]
    word = words[index]
    place = int(random.integers(1, len(word) - 1))
    kind = int(random.integers(4))
    if kind == 0:
        word = word[:place] + word[place + 1 :]
    elif kind == 1:
        word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    elif kind == 2:
        word = word[:place] + word[place] + word[place:]
    else:
        word = word[:place] + _pick(random, tuple(string.ascii_lowercase)) + word[place + 1 :]
    words[index] = word
    return " ".join(words)


def _dress(random: np.random.Generator, text: str) -> str:
    """Capitals and slips, as people type."""
    draw = random.random()
    if draw < 0.10:
        text = _misspell(random, text)
    if draw > 0.85:
        text = text.title() if draw > 0.97 else text.capitalize()
    return text + "." if random.random() < 0.05 else text


def random_prompt(
    random: np.random.Generator, words: tuple[str, ...] = (), style: int | None = None, tint: int | None = None
) -> Prompt:
    """A prompt for `style` and `tint` (or random ones, every fourth with a tint); never one that is held out.

    `words` are arbitrary English words: a prompt of nothing but those, or of subjects, asks for a plain photo.
    """
    if style is None:
        style = int(random.integers(len(STYLE_IDS))) if random.random() > 0.12 else 0
    if tint is None:
        tint = int(random.integers(1, len(TINT_IDS))) if random.random() < 0.25 else 0
    while True:
        text = _compose(random, words, style, tint)
        if not any(held in text.lower() for held in HELD_OUT):
            return Prompt(_dress(random, text), style, tint)


def _compose(random: np.random.Generator, words: tuple[str, ...], style: int, tint: int) -> str:
    """The sentence, before slips."""
    if style == 0 and random.random() < (0.55 if tint == 0 else 0.35):
        if tint == 0 and random.random() < 0.15:
            return ""
        text = _fill(random, _pick(random, PLAIN_TEMPLATES), "", words)
    elif style == 0 and tint and random.random() < 0.5:
        return _fill(
            random, _pick(random, ("{s}", "{s}", "make it {s}", "{a} {s}", "in {s}")), _tint_phrase(random, tint), words
        )
    else:
        text = _fill(random, _pick(random, TEMPLATES), _pick(random, STYLES[STYLE_IDS[style]].trained), words)
    if words and random.random() < 0.12:
        text = f"{text} {_pick(random, words)}"
    if tint == 0:
        return text
    return _pick(random, TINT_TEMPLATES).replace("{p}", text).replace("{t}", _tint_phrase(random, tint))


def _tint_phrase(random: np.random.Generator, tint: int) -> str:
    return _pick(random, TINTS[TINT_IDS[tint]].trained)


def held_out_prompts() -> list[Prompt]:
    """Every phrase kept from training, as it stands."""
    prompts = [Prompt(text, index, 0) for index, name in enumerate(STYLE_IDS) for text in STYLES[name].held_out]
    return prompts + [Prompt(text, 0, index) for index, name in enumerate(TINT_IDS) for text in TINTS[name].held_out]
