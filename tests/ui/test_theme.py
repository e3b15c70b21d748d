"""Colours that can be read: WCAG 2.1, success criteria 1.4.3 (text, 4.5 to 1) and 1.4.11 (controls, 3 to 1)."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import re
from itertools import product
from pathlib import Path

import pytest

import ui.theme
from ui.theme import DARK, LIGHT, Theme

THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
BEHIND = ("ground", "surface", "raised")
CHOSEN = ("hover", "accent_soft")


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, 0..1."""
    values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_measure_is_the_standards():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@THEMES
def test_text_can_be_read(theme: Theme):
    pairs = [*product(("text", "muted", "faint", "bad", "warn", "good", "accent"), BEHIND)]
    pairs += [*product(("text", "muted"), CHOSEN), ("on_accent", "accent"), ("text", "bad_soft"), ("bad", "bad_soft")]
    low = {(one, other): contrast(getattr(theme, one), getattr(theme, other)) for one, other in pairs}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}


@THEMES
def test_controls_can_be_seen(theme: Theme):
    low = {behind: contrast(theme.control, getattr(theme, behind)) for behind in BEHIND}
    assert {pair: ratio for pair, ratio in low.items() if ratio < 3} == {}
    assert contrast(theme.accent, theme.surface) >= 3


def test_what_can_be_typed_into_or_moved_has_the_colour_of_controls():
    style = (Path(ui.theme.__file__).with_name("theme.qss")).read_text(encoding="utf-8")
    for selector in ("QSlider::groove:horizontal", "QSlider::handle:horizontal"):
        (rule,) = re.findall(rf"^{selector} {{(.*?)}}", style, re.MULTILINE | re.DOTALL)
        assert "$control" in rule, selector
    (box,) = re.findall(r"^QLineEdit, QPlainTextEdit.*?{(.*?)}", style, re.MULTILINE | re.DOTALL)[:1]
    assert "1px solid $control" in box
