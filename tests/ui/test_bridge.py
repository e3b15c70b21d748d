"""From the session's threads to Qt's."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import threading

import numpy as np
from pytestqt.qtbot import QtBot

from app.frame import Frame
from app.status import Notice
from ui.bridge import Bridge
from ui.layout import Layout
from ui.pixels import Presenter


def frame(index: int) -> Frame:
    return Frame(index, 0.0, np.zeros((2, 2, 3), np.uint8))


def test_a_slow_window_gets_the_newest_picture_and_no_queue(qtbot: QtBot):
    bridge = Bridge()
    seen: list[int] = []
    announced: list[None] = []
    bridge.pictured.connect(lambda: announced.append(None))

    def feed() -> None:
        for index in range(100):
            bridge.put(frame(index))

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join()
    qtbot.waitUntil(lambda: bool(announced))
    newest = bridge.take()
    assert newest is not None
    seen.append(newest.index)
    assert seen == [99]
    assert len(announced) == 1
    assert bridge.take() is None
    bridge.put(frame(100))
    assert len(announced) == 2


def test_words_from_another_thread_arrive_on_this_one(qtbot: QtBot):
    bridge = Bridge()
    threads: list[int] = []
    with qtbot.waitSignal(bridge.told) as told:
        bridge.told.connect(lambda _: threads.append(threading.get_ident()))
        speaker = threading.Thread(target=lambda: bridge.tell(Notice("hello")))
        speaker.start()
    speaker.join()
    qtbot.waitUntil(lambda: bool(threads))
    assert told.args == [Notice("hello")]


def test_what_the_source_sees_is_for_the_window_alone(qtbot: QtBot):
    """A clean feed may be on air: nobody is shown there before they are styled."""
    bridge, window, feed = Bridge(), Presenter(), Presenter()
    for presenter in (window, feed):
        presenter.want(Layout((20, 20)))
    bridge.attach(window, previews=True)
    bridge.attach(feed)
    with qtbot.waitSignal(bridge.pictured):
        bridge.preview(frame(1))
    assert window.take() is not None
    assert feed.take() is None
    bridge.take()
    bridge.put(frame(2))
    assert window.take() is not None
    assert feed.take() is not None
    bridge.detach(window)
    bridge.preview(frame(3))
    assert window.take() is None
