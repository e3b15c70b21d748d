"""A source by its name: what kind it is, and what stands for it."""

from __future__ import annotations

import pytest

from ui.choice import Choice


@pytest.mark.parametrize(
    ("spec", "kind", "icon"),
    [
        ("text", "text", "brush"),
        ("text:fps=12", "text", "brush"),
        ("testcard", "testcard", "testcard"),
        ("screen:1:0,0,8,8", "region", "region"),
        ("text.mp4", "video", "film"),
    ],
)
def test_a_choice_knows_its_kind(spec: str, kind: str, icon: str) -> None:
    choice = Choice(spec, "a name")
    assert (choice.kind, choice.icon) == (kind, icon)
