"""What is kept on disk between two runs: found again by its key, never trusted without its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import platformdirs

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """The user's own cache folder for Vitrail, or ``VITRAIL_CACHE`` where that is set."""
    chosen = os.environ.get("VITRAIL_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("vitrail", appauthor=False))


class FileCache:
    """Contents by key. A file that is damaged, or of another version of its kind, counts as missing and is removed.

    Args:
        folder: made when it is first written to; where it cannot be written, nothing is kept, and the log says so.
        kind: what the files are, for people, and their suffix: ``engine``.
        version: of what such a file holds.
        most_bytes: all files together take at most so much; the one unused for longest is removed first.
    """

    def __init__(self, folder: Path, kind: str, version: int, most_bytes: int) -> None:
        self._folder = folder
        self._kind = kind
        self._magic = f"vitrail {kind} {version}\n".encode()
        self._most_bytes = most_bytes

    def path(self, key: str) -> Path:
        """The file of ``key``, there or not."""
        return self._folder / f"{key}.{self._kind}"

    def load(self, key: str) -> bytes | None:
        """What ``store`` was given under ``key``; None where there is nothing that is whole."""
        path = self.path(key)
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the %s in %s cannot be read (%s); it is made again", self._kind, path, error.strerror)
            return None
        start = len(self._magic) + _DIGEST_BYTES
        content = stored[start:]
        if stored[:start] != self._magic + hashlib.sha256(content).digest():
            logger.warning("the %s in %s is damaged; it is made again", self._kind, path)
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # its time says when it was last used, by which ``_prune`` goes
        return content

    def store(self, key: str, content: bytes) -> None:
        """Keep ``content``, whole or not at all."""
        path = self.path(key)
        # Of this thread alone: two that write one entry at once must not meet in a draft.
        draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(self._magic + hashlib.sha256(content).digest())
                file.write(content)
            draft.replace(path)
            self._prune()
        except OSError as error:
            what = "the %s cannot be kept in %s (%s); it is made again next time"
            logger.warning(what, self._kind, path, error.strerror)
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Forget ``key``, whether it is there or not."""
        with contextlib.suppress(OSError):
            self.path(key).unlink(missing_ok=True)

    def _prune(self) -> None:
        files = sorted(_present(self._folder.glob(f"*.{self._kind}")), key=lambda one: one[0].st_mtime)
        excess = sum(stat.st_size for stat, _ in files) - self._most_bytes
        for stat, file in files[:-1]:
            if excess <= 0:
                break
            file.unlink(missing_ok=True)
            excess -= stat.st_size
        for stat, draft in _present(self._folder.glob(".*.part")):
            # Left behind by a process that was ended while it wrote.
            if time.time() - stat.st_mtime > 3600:
                draft.unlink(missing_ok=True)


def _present(files: Iterable[Path]) -> Iterator[tuple[os.stat_result, Path]]:
    """The files with their sizes and times; without those that somebody else has removed or renamed meanwhile."""
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            yield file.stat(), file


def key_of(**parts: object) -> str:
    """A file name for what was made from these JSON-able ``parts``."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=20).hexdigest()
