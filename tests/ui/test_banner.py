"""Short news over the picture: none is lost, none piles up."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from typing import Any

import pytest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui import banner
from ui.banner import MOST_WAITING, Toast


@pytest.fixture
def stage(qtbot: QtBot) -> QWidget:
    made = QWidget()
    qtbot.addWidget(made)
    made.resize(800, 600)
    made.show()
    return made


@pytest.fixture
def toast(stage: QWidget, monkeypatch: pytest.MonkeyPatch) -> Toast:
    """One whose news stay until they are sent away."""
    monkeypatch.setattr(banner, "_LEAST_SECONDS", 3600.0)
    return Toast(stage)


def read(toast: Toast) -> list[str]:
    """Send one after the other away."""
    texts = []
    while toast.text:
        texts.append(toast.text)
        toast.dismiss.click()
    return texts


def test_what_comes_while_another_is_on_show_waits(toast: Toast):
    toast.tell("Saved a.png.", "done")
    toast.tell("Recorded a.mp4.", "done")
    toast.tell("Saved a.png.", "done")
    toast.tell("Recorded a.mp4.", "done")
    assert read(toast) == ["Saved a.png.", "Recorded a.mp4."]
    toast.tell("Saved a.png.", "done")
    assert toast.text == "Saved a.png."


def test_an_error_goes_first_and_loses_nobody_their_turn(toast: Toast):
    for text, kind in (("a", "info"), ("b", "info"), ("disk full", "error"), ("c", "done"), ("unplugged", "error")):
        toast.tell(text, kind)
    assert read(toast) == ["disk full", "unplugged", "a", "b", "c"]


def test_news_do_not_pile_up_and_errors_are_given_up_last(toast: Toast):
    toast.tell("disk full", "error")
    toast.tell("unplugged", "error")
    for number in range(50):
        toast.tell(f"news {number}")
    texts = read(toast)
    assert texts == ["disk full", "unplugged", *(f"news {number}" for number in range(51 - MOST_WAITING, 50))]
    for number in range(50):
        toast.tell(f"error {number}", "error")
    assert read(toast) == ["error 0", *(f"error {number}" for number in range(50 - MOST_WAITING, 50))]


def test_news_leave_by_themselves(qtbot: QtBot, toast: Toast, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(banner, "_LEAST_SECONDS", 0.01)
    monkeypatch.setattr(banner, "_SECONDS_PER_WORD", 0.0)
    shown: list[str] = []
    say = toast.say

    def noted(text: str, *arguments: Any, **named: Any) -> None:
        shown.append(text)
        say(text, *arguments, **named)

    monkeypatch.setattr(toast, "say", noted)
    for text in ("a", "b", "c"):
        toast.tell(text)
    qtbot.waitUntil(lambda: len(shown) == 3 and toast.isHidden())
    assert shown == ["a", "b", "c"]


def test_news_of_a_file_can_be_acted_on_as_long_as_they_are_shown(toast: Toast):
    done: list[str] = []
    toast.tell("Recorded a.mp4.", "done", [("Play", lambda: done.append("a")), ("Show in folder", lambda: None)])
    toast.tell("Saved b.png.", "done", [("Open", lambda: done.append("b"))])
    assert [one.text() for one in (toast.button, toast.second) if one.isVisible()] == ["Play", "Show in folder"]
    toast.button.click()
    toast.dismiss.click()
    assert [one.text() for one in (toast.button, toast.second) if one.isVisible()] == ["Open"]
    toast.button.click()
    toast.tell("No more.", "info")
    toast.dismiss.click()
    assert not toast.button.isVisible()
    assert done == ["a", "b"]
