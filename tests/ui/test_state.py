"""What the window remembers of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui.state import WindowState, load_state, save_state


def test_it_comes_back_as_it_was(tmp_path: Path):
    state = WindowState(
        "abc", "light", "split", False, True, "screen:2", 1, seed_held=False, folded=("Look",), unfolded=("Engine",)
    )
    save_state(state, tmp_path / "window.json")
    assert load_state(tmp_path / "window.json") == state


@pytest.mark.parametrize("text", ["", "[]", "7", '{"theme": 3, "panel": "yes", "folded": [1], "unknown": 1}', "\x00"])
def test_what_makes_no_sense_is_the_default(tmp_path: Path, text: str):
    (tmp_path / "window.json").write_text(text)
    assert load_state(tmp_path / "window.json") == WindowState()


def test_nothing_kept_is_the_default(tmp_path: Path):
    assert load_state(tmp_path / "none.json") == WindowState()
