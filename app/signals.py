"""Signals that ask the program to end: all of them end it as Ctrl-C does, with its files finished."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Asked to end by a system that shuts down, by a terminal that was closed, and by Ctrl-Break on Windows.
_ENDING = ("SIGTERM", "SIGHUP", "SIGBREAK")


class Ended(KeyboardInterrupt):
    """The program was asked to end by signal ``number``. Whoever foresees Ctrl-C foresees it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


def ending_signals() -> list[signal.Signals]:
    """Those that this system has and that are not ignored, as ``nohup`` has it."""
    found = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    return [one for one in found if signal.getsignal(one) is not signal.SIG_IGN]


def end_as_by_ctrl_c() -> None:
    """Have them raise ``Ended`` on the main thread, on which this is to be called."""

    def end(number: int, _: FrameType | None) -> None:
        raise Ended(number)

    for one in ending_signals():
        signal.signal(one, end)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have ``handler`` called for Ctrl-C and all of them while the block runs."""
    before = [(one, signal.signal(one, handler)) for one in (signal.SIGINT, *ending_signals())]
    try:
        yield
    finally:
        for one, earlier in before:
            signal.signal(one, signal.SIG_DFL if earlier is None else earlier)
