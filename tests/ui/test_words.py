"""Styles in the words of a prompt."""

from __future__ import annotations

import pytest

from app.styles import Style
from ui.words import has, with_style

PHOTO = Style("Photo", "a photo")
INK = Style("Ink", "an ink drawing")
WARM = Style("Warm", "warm colours", tint=True)
SEPIA = Style("Sepia", "sepia", tint=True)
KNOWN = (PHOTO, INK, WARM, SEPIA)


@pytest.mark.parametrize(
    ("prompt", "style", "after"),
    [
        ("", INK, "an ink drawing"),
        ("a photo", INK, "an ink drawing"),
        ("A Photo of a cat, sepia", INK, "an ink drawing of a cat, sepia"),
        ("something else, sepia", INK, "an ink drawing, sepia"),
        ("a photo", WARM, "a photo, warm colours"),
        ("a photo, warm colours", WARM, "a photo"),
        ("a photo, warm colours, of a cat", SEPIA, "a photo, of a cat, sepia"),
        ("", SEPIA, "sepia"),
    ],
)
def test_a_style_takes_the_place_of_another(prompt: str, style: Style, after: str):
    assert with_style(prompt, style, KNOWN) == after


def test_a_style_is_found_by_whole_words():
    assert has("an ink drawing", INK)
    assert has("AN INK DRAWING!", INK)
    assert not has("a photograph", PHOTO)
