"""What can be written in a prompt: emphasis as ``(word:1.3)``, and several prompts in one as ``ink::2 a mosaic::1``.

Emphasis is written as AUTOMATIC1111's web UI has made common: ``(word)`` is 1.1 times as strong, ``((word))`` 1.21
times, ``[word]`` a 1.1th, ``(word:1.3)`` exactly 1.3 times, and a bracket behind a backslash is a plain one. Weighted
prompts are written as Midjourney does: a text, two colons, its weight. Nothing that can be typed is an error: what does
not parse is text.
"""

from __future__ import annotations

import re

# Texts and their weights, which sum to 1.
Mix = tuple[tuple[str, float], ...]

_BRACKET = 1.1
# No weight is beyond this, whatever is typed: long before it a picture is nothing but that word.
_MOST_WEIGHT = 1e4
_TOKEN = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
_WEIGHTED = re.compile(r"::\s*([+-]?(?:\d+\.?\d*|\.\d+))?")


def emphasis(prompt: str) -> list[tuple[str, float]]:
    """``prompt`` as texts in order, each with how strong it is; 1 is plain. Brackets left open end with the prompt."""
    pieces: list[tuple[str, float]] = []
    open_brackets: list[tuple[str, int]] = []  # (which, index of the first piece inside)

    def close(factor: float) -> None:
        _, first = open_brackets.pop()
        pieces[first:] = [(text, _bounded(weight * factor)) for text, weight in pieces[first:]]

    for match in _TOKEN.finditer(prompt):
        token = match.group()
        if token.startswith("\\") and len(token) > 1:
            pieces.append((token[1], 1.0))
        elif token in "([":
            open_brackets.append((token, len(pieces)))
        elif open_brackets and (factor := _closing(token, open_brackets[-1][0])) is not None:
            close(factor)
        else:
            pieces.append((token, 1.0))
    while open_brackets:
        close(_BRACKET if open_brackets[-1][0] == "(" else 1 / _BRACKET)
    return _joined(pieces)


def _bounded(weight: float) -> float:
    return min(max(weight, -_MOST_WEIGHT), _MOST_WEIGHT)


def _closing(token: str, kind: str) -> float | None:
    """By how much the bracket ``kind`` weighs what is in it, if ``token`` closes it."""
    if token == ")" and kind == "(":
        return _BRACKET
    if token == "]" and kind == "[":
        return 1 / _BRACKET
    return float(token[1:-1]) if kind == "(" and token[0] == ":" and token[-1] == ")" else None


def _joined(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    joined: list[tuple[str, float]] = []
    for text, weight in pieces:
        if joined and joined[-1][1] == weight:
            joined[-1] = (joined[-1][0] + text, weight)
        else:
            joined.append((text, weight))
    return joined or [("", 1.0)]


def mixture(prompt: str) -> Mix:
    """The prompts in ``prompt`` with their shares; without ``::`` there is one. Shares below 0 count as 0."""
    parts = _WEIGHTED.split(prompt)
    if len(parts) == 1:
        return ((prompt, 1.0),)
    texts = [text.strip() for text in parts[::2]]
    weights = [max(0.0, _bounded(float(given))) if given else 1.0 for given in parts[1::2]]
    if texts[-1]:
        weights.append(1.0)
    pairs = [(text, weight) for text, weight in zip(texts, weights, strict=False) if weight]
    total = sum(weight for _, weight in pairs)
    if total == 0:
        return ((prompt, 1.0),)
    return tuple((text, weight / total) for text, weight in pairs)


def blended(prompt: str, prompt_b: str, blend: float) -> Mix:
    """``prompt`` alone at 0, ``prompt_b`` alone at 1, both between."""
    if blend == 0 or prompt == prompt_b:
        return mixture(prompt)
    if blend == 1:
        return mixture(prompt_b)
    first = tuple((text, weight * (1 - blend)) for text, weight in mixture(prompt))
    return first + tuple((text, weight * blend) for text, weight in mixture(prompt_b))
