"""The terminal, or what stands in its place: a closed pipe, a full disk, a code page, or nothing at all.

Messages that nobody reads change nothing of what is done, and text that a terminal cannot show ends nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO, cast

from app.commands.misuse import Misuse

if TYPE_CHECKING:
    from rich.console import Console


class Messages:
    """Standard error as a file that takes everything: what cannot be written there is dropped.

    Args:
        stream: where to; the process's standard error, as it is now, by default. None in a program without a console.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream

    @property
    def encoding(self) -> str:
        """That of the stream; rich asks for it before it draws lines."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person sees it as it is written."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """That of the stream. Raises ``OSError`` where it has none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str, /) -> int:
        """Write ``text``, with escapes for what the stream cannot show."""
        shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if self._stream is not None:
            try:
                self._stream.write(shown)
            except (OSError, ValueError) as error:
                self._cannot(error)
        return len(text)

    def flush(self) -> None:
        """See that it is out."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._cannot(error)

    def _cannot(self, error: OSError | ValueError) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            _let_go(stream)


class Results(Messages):
    """Standard output as a file: a reader who has seen enough may go, and anything else that goes wrong is said."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    def _cannot(self, error: OSError | ValueError) -> None:
        super()._cannot(error)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise Misuse(f"what was found cannot be written: {error.strerror}") from error


def console_on(file: Messages) -> Console:
    """rich's console, which writes there."""
    from rich.console import Console

    return Console(file=cast(TextIO, file))


def say(line: str) -> None:
    """One line to the user, whatever is in it."""
    messages = Messages()
    messages.write(f"vitrail: {' '.join(line.split())}\n")
    messages.flush()


def take_any_text() -> None:
    """Have standard output write something for what it cannot encode, as standard error always does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def settle_output() -> None:
    """Write what standard output still holds; where that cannot be, nothing is left to fail at the very end."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _let_go(sys.stdout)


def _let_go(stream: TextIO) -> None:
    """Lead the stream to nowhere: Python flushes it at the very end, and would end with a code of its own."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
