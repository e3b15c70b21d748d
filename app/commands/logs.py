"""The log file: where tracebacks go, so that the terminal can stay readable."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

import platformdirs

_FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"


def log_path() -> Path:
    """The log file in the user's own log folder, or in the temporary folder where that cannot be written."""
    folder = Path(platformdirs.user_log_dir("vitrail", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "vitrail.log").open("a"):
            pass
    except OSError:
        folder = Path(tempfile.gettempdir())
    return folder / "vitrail.log"


@contextmanager
def logging_to_file() -> Iterator[Path]:
    """Send the program's log to its file, and not to the terminal, while the block runs; gives the file's path."""
    path = log_path()
    handler = RotatingFileHandler(
        path, maxBytes=1_000_000, backupCount=1, encoding="utf-8", delay=True, errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    ours = [logging.getLogger(name) for name in ("app", "pipeline", "ui")]
    levels = [logger.level for logger in ours]
    root.addHandler(handler)
    for logger in ours:
        logger.setLevel(logging.INFO)
    try:
        yield path
    finally:
        root.removeHandler(handler)
        handler.close()
        for logger, level in zip(ours, levels, strict=True):
            logger.setLevel(level)
