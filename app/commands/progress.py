"""Runs a session to its end, with a progress bar on a terminal, and turns how it ended into an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from app.commands.misuse import Misuse
from app.fetching import fetched_words
from app.memory import MemoryShort
from app.session import Session
from app.sinks.base import SinkError
from app.sources.base import SourceError
from app.status import Notice, SessionState, Status

_REFRESH_SECONDS = 0.1


class Narrator:
    """A session's listener that collects what is worth a line; ``tell`` writes it, on the main thread.

    Attributes:
        sink_errors: why sinks took no more pictures. ``tell`` says nothing of them, as the first one ends the command
            in its own words, and each sentence is to be read once.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._news: list[str] = []
        self.sink_errors: list[SinkError] = []

    def __call__(self, news: Status | Notice) -> None:
        """Take note. Called on any thread."""
        if isinstance(news, Notice):
            if isinstance(news.error, SinkError):
                self.sink_errors.append(news.error)
            else:
                self._news.append(news.message)
        elif news.state is SessionState.STALLED:
            self._news.append(f"{news.message} Trying again.")

    def tell(self) -> None:
        """Write what was collected."""
        while self._news:
            say(self._console, self._news.pop(0))

    def tell_sink_errors(self, besides: Exception | None = None) -> None:
        """Write what ended sinks, but for an error that is told otherwise."""
        for line in dict.fromkeys(str(error) for error in self.sink_errors):
            if besides is None or line != str(besides):
                say(self._console, line)


def say(console: Console, line: str) -> None:
    """One line to the user, as it stands: no markup, no wrapping."""
    console.print(f"vitrail: {' '.join(line.split())}", markup=False, highlight=False, soft_wrap=True)


def run_to_end(session: Session, narrator: Narrator, console: Console, title: str, total: int | None) -> None:
    """Start ``session`` (made with ``once``), wait for its end and finish its files.

    Raises:
        Misuse: source, model or output could not be used.
        KeyboardInterrupt: the user pressed Ctrl-C; the session is stopped and its files are finished.
        Exception: whatever else ended it.
    """
    try:
        session.start()
        with _progress(console, title, total) as show:
            while not _over(status := session.wait(_REFRESH_SECONDS)):
                narrator.tell()
                show(session)
            show(session)
        status = session.wait()  # and now without a limit: to finish a long file takes as long as it takes
    except KeyboardInterrupt:
        session.stop()
        narrator.tell()
        narrator.tell_sink_errors()
        raise
    finally:
        session.stop()
    narrator.tell()
    problem = status.error or next(iter(narrator.sink_errors), None)
    narrator.tell_sink_errors(besides=problem)
    if problem is not None and not _is_misuse(problem):
        raise problem
    if problem is not None:
        raise Misuse(str(problem)) from problem


def summary(session: Session, size: tuple[int, int] | None = None) -> str:
    """What was done, in one line.

    Args:
        size: width and height of the file, into which pictures of other sizes were fitted; by default that of the last
            picture.
    """
    done = session.metrics()
    width, height = size or (done.width, done.height)
    return (
        f"{done.frames_out} frames of {width}x{height} in {done.seconds:.1f} s: {done.fps:.1f} fps, "
        f"latency {done.latency_p50_ms:.0f} ms (p95 {done.latency_p95_ms:.0f} ms)"
    )


def _over(status: Status) -> bool:
    return status.state.final or status.state is SessionState.ENDED


def _is_misuse(error: Exception) -> bool:
    from pipeline import ModelError

    return isinstance(error, (SourceError, SinkError, ModelError, MemoryShort))


@contextmanager
def _progress(console: Console, title: str, total: int | None) -> Iterator[Callable[[Session], None]]:
    """A bar on a terminal; elsewhere nothing, for a log file has no use for it."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.fields[wanted]}", markup=False),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, wanted=total or "?", speed="")

        def show(session: Session) -> None:
            now = session.metrics()
            speed = f"{now.fps_out:5.1f} fps {now.recent_latency_ms:5.0f} ms"
            about = title if session.state is SessionState.RUNNING else session.status.message or title
            about = fetched_words(session.settings.model, session.fetched) or about
            progress.update(task, completed=now.frames_out, description=about, speed=speed if now.frames_out else "")

        yield show
