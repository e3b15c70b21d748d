"""Built engines on disk: found again by what they were built from, never trusted without their checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from pathlib import Path

import platformdirs

logger = logging.getLogger(__name__)

# All engines together take at most so much; one of a large model takes gigabytes. The one unused for longest is removed
# first.
MOST_BYTES = 16 * 2**30
_MAGIC = b"vitrail engine 1\n"
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Where what can be made again is kept: the user's own cache folder, or ``VITRAIL_CACHE`` where that is set."""
    chosen = os.environ.get("VITRAIL_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("vitrail", appauthor=False))


def default_folder() -> Path:
    """Where engines are kept."""
    return cache_folder() / "engines"


class EngineCache:
    """Engines by key. A file that is damaged, or of another version of this class, counts as missing and is removed.

    Args:
        folder: made when it is first written to; where it cannot be written, nothing is kept, and the log says so.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or default_folder()

    def path(self, key: str) -> Path:
        """The file of ``key``, there or not."""
        return self._folder / f"{key}.engine"

    def load(self, key: str) -> bytes | None:
        """What ``store`` was given under ``key``; None where there is nothing that is whole."""
        path = self.path(key)
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("the engine in %s cannot be read (%s); it is built again", path, error.strerror)
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        content = stored[start:]
        if stored[:start] != _MAGIC + hashlib.sha256(content).digest():
            logger.warning("the engine in %s is damaged; it is built again", path)
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # its time says when it was last used, by which ``_prune`` goes
        return content

    def store(self, key: str, content: bytes) -> None:
        """Keep ``content``, whole or not at all."""
        path = self.path(key)
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest())
                file.write(content)
            draft.replace(path)
            self._prune()
        except OSError as error:
            logger.warning("an engine cannot be kept in %s (%s); it is built again next time", path, error.strerror)
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Forget ``key``, whether it is there or not."""
        with contextlib.suppress(OSError):
            self.path(key).unlink(missing_ok=True)

    def _prune(self) -> None:
        files = sorted(((file.stat(), file) for file in self._folder.glob("*.engine")), key=lambda one: one[0].st_mtime)
        excess = sum(stat.st_size for stat, _ in files) - MOST_BYTES
        for stat, file in files[:-1]:
            if excess <= 0:
                break
            file.unlink(missing_ok=True)
            excess -= stat.st_size
        for draft in self._folder.glob(".*.part"):
            # Left behind by a process that was ended while it wrote.
            if time.time() - draft.stat().st_mtime > 3600:
                draft.unlink(missing_ok=True)


def key_of(**parts: object) -> str:
    """A file name for an engine that was built from these JSON-able ``parts``."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=20).hexdigest()
