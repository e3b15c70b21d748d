"""Small JSON files that outlive the program: one reader and one writer for all of them.

What the writer wrote, the reader gives back, whatever text is in it. Anything else is an error that callers foresee,
however large or deeply nested it is, because these files lie in folders that other programs write to, too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from app.files import remove_old_drafts
from pipeline.user_path import real_path
from pipeline.whole_files import TooLargeError, read_whole, write_whole

logger = logging.getLogger(__name__)

# Settings take a few kilobytes; prompts of a hundred thousand characters fit as well.
LARGEST_FILE = 4 * 2**20

_MOST_NOTES, _LONGEST_NOTE = 8, 300


class DamagedError(ValueError):
    """The file is there, and is not what ``write_json`` writes. The message says why, in half a sentence."""


def read_json(path: Path) -> object:
    """What ``write_json`` wrote to ``path``.

    Raises:
        DamagedError: it is larger than ``LARGEST_FILE``, no UTF-8, no JSON, or nested too deeply.
        OSError: it is not there, or cannot be read; ``strerror`` says why.
    """
    try:
        return parse_json(read_whole(path, LARGEST_FILE).decode("utf-8-sig"))  # some editors put a mark first
    except (TooLargeError, UnicodeDecodeError) as error:
        raise DamagedError(getattr(error, "strerror", None) or "it is not a text file") from error


def parse_json(text: str) -> object:
    """What ``to_json`` was given. Raises ``DamagedError`` as ``read_json`` does."""
    if len(text) > LARGEST_FILE:
        raise DamagedError(f"it is larger than {LARGEST_FILE // 2**20} MB")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DamagedError("it is nested too deeply") from error
    except ValueError as error:  # also of numbers too long to read
        raise DamagedError("it is not JSON") from error


def read_kept(path: Path) -> object:
    """As ``read_json``, for what is no great loss: None where there is nothing, or nothing whole, as the log says."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None


def to_json(value: object, *, indent: int | None = None) -> str:
    """``value`` as JSON that can be written in UTF-8.

    Text from a command line or a file name may hold lone surrogates, which have no UTF-8. They are written as JSON's
    own escapes, so that ``parse_json`` gives the very same text.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value: object) -> None:
    """Write ``value`` to ``path`` as JSON, whole or not at all. Raises ``OSError``."""
    write_text(path, to_json(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as ``write_whole`` does, whole or not at all; makes the folder.

    Args:
        path: of the file.
        text: what has no UTF-8 in it is written as the sign for that (U+FFFD).

    Raises:
        OSError: the disk does not take it; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = Path(real_path(path))
    write_whole(path, encodable(text).encode("utf-8"))
    remove_old_drafts(path.parent, f"{path.name}.")


def encodable(text: str) -> str:
    """``text`` with the sign for what cannot be read (U+FFFD) in the place of each lone surrogate."""
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)


def few(notes: Iterable[str]) -> list[str]:
    """``notes`` as a person can take them in: no more than a handful, none longer than a few lines."""
    given = [note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE]}…" for note in notes]
    if len(given) <= _MOST_NOTES:
        return given
    return [*given[: _MOST_NOTES - 1], f"There are {len(given) - _MOST_NOTES + 1} more of this kind."]
