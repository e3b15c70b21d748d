"""The prompts of the past."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from app.prompt_history import PromptHistory, load_history, save_history


def test_newest_first_each_once_and_bounded():
    history = PromptHistory(limit=3)
    for prompt in ["ink", "  a  watercolour\n", "", "   ", "INK", "pencil", "mosaic"]:
        history.add(prompt)
    assert history.prompts == ("mosaic", "pencil", "INK")


def test_it_comes_back_from_its_file(tmp_path: Path):
    path = tmp_path / "below" / "prompts.json"
    assert load_history(path).prompts == ()
    save_history(PromptHistory(["Tusche 墨", "pencil"]), path)
    assert load_history(path).prompts == ("Tusche 墨", "pencil")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00"])
def test_a_damaged_file_is_an_empty_history(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "prompts.json"
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        assert load_history(path).prompts == ()
    assert "cannot be read" in caplog.text


def test_what_is_no_prompt_in_it_is_left_out(tmp_path: Path):
    path = tmp_path / "prompts.json"
    path.write_text('["ink", 3, null, ["x"], "pencil"]')
    assert load_history(path).prompts == ("ink", "pencil")
    path.write_text('{"ink": 1}')
    assert load_history(path).prompts == ()
