"""A line chart with two logarithmic axes, as SVG and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 760, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 40, 50
_COLOURS = ("#777777", "#b07aa1", "#e15759", "#f28e2b", "#edc948", "#59a14f", "#4e79a7", "#1b3a6b", "#9c755f")


@dataclass(frozen=True, slots=True)
class Line:
    """``name`` and its points, all above 0; ``dashed`` sets peers apart."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


def log_plot(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """The chart as the text of an SVG file."""
    xs = [x for line in lines for x in line.x]
    ys = [y for line in lines for y in line.y]
    low, high = 10.0 ** math.floor(math.log10(min(ys))), 10.0 ** math.ceil(math.log10(max(ys)))

    def across(x: float) -> float:
        share = math.log(x / min(xs)) / math.log(max(xs) / min(xs))
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def up(y: float) -> float:
        return _TOP + math.log(high / y) / math.log(high / low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}">{escape(x_label)}</text>',
        f'<text transform="translate(16 {_HEIGHT - _BOTTOM}) rotate(-90)">{escape(y_label)}</text>',
    ]
    for x in sorted(set(xs)):
        parts.append(_rule(across(x), up(low), across(x), up(high)))
        parts.append(f'<text x="{across(x):.1f}" y="{up(low) + 18:.1f}" text-anchor="middle">{x:g}</text>')
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = up(10.0**power)
        parts.append(_rule(_LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for number, line in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(line.x, line.y, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        y = _TOP + 14 + 20 * number
        left = _WIDTH - _RIGHT + 14
        parts.append(f'<path d="M{left} {y - 4}h26" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{left + 32}" y="{y}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#e4e4e4"/>'
