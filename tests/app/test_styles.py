"""The styles that a model lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.styles import Style, styles_of


def test_the_embedded_model_lists_its_styles():
    styles = styles_of("embedded")
    assert Style("Watercolour", "a watercolour") in styles
    assert Style("Warm", "warm colours", tint=True) in styles
    assert all("a watercolor painting" in style.wordings for style in styles if style.name == "Watercolour")


def test_a_folder_may_list_its_own(tmp_path: Path):
    (tmp_path / "styles.json").write_text('{"styles": [{"name": "Fresco", "prompt": "a fresco"}, {"name": 3}]}')
    assert styles_of(str(tmp_path)) == (Style("Fresco", "a fresco"),)


@pytest.mark.parametrize("text", ["", "[]", '{"styles": 4}', '{"styles": ["a"], "tints": null}', "\x00"])
def test_a_list_that_makes_no_sense_is_no_list(tmp_path: Path, text: str):
    (tmp_path / "styles.json").write_text(text)
    assert styles_of(str(tmp_path)) == ()


def test_a_model_without_a_list_has_none(tmp_path: Path):
    assert styles_of(str(tmp_path)) == ()
    assert styles_of("stabilityai/sd-turbo") == ()
    assert styles_of(str(tmp_path / "model.safetensors")) == ()
