"""Styles in the words of a prompt."""

from __future__ import annotations

import pytest

from app.styles import Style, styles_of
from ui.words import has, unknown, with_style

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


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat astronaut in space", ["cat", "astronaut", "space"]),
        ("a pencil sketch of a robot, warm colours", ["robot"]),
        ("ROBOT and robot", ["robot"]),
        ("in the style of Vincent van Gogh", []),
        ("a watercolour", []),
        ("an old japanese woodblock print::2 (sepia:1.3)", []),
        ("", []),
        ("ein Gemälde", ["ein", "gemälde"]),
    ],
)
def test_words_that_the_model_was_not_taught_are_known(prompt: str, words: list[str]):
    assert unknown(prompt, styles_of("embedded")) == words


def test_a_model_without_a_list_of_styles_takes_any_words():
    assert unknown("a cat astronaut in space", ()) == []


def test_every_wording_of_every_style_is_taught():
    known = styles_of("embedded")
    assert all(unknown(text, known) == [] for style in known for text in (style.prompt, *style.wordings))
