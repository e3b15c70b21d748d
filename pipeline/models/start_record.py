"""What an earlier process has found out about a model's files, so that a start need not read them first.

A record is of the very files that it was made from: by their names, sizes and times, which any writing changes. It
holds the model's facts and the digests of its weights. With these a stream can look its engines up and show pictures,
before a module is built or a file of weights is opened; the files are read beside.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from pipeline.file_cache import FileCache, cache_folder, key_of
from pipeline.models.facts import Facts
from pipeline.user_path import is_folder, real_path

logger = logging.getLogger(__name__)

# Change this with anything that changes what is read of a model, or what is recorded.
_VERSION = 1
_MOST_BYTES = 2**22
# Engines of one process that the next one begins with: those of two sizes or numbers of steps.
_MOST_ENGINES = 6

# Of each file: its name, its size, and when it and what the system knows of it were last changed, in nanoseconds.
Listing = list[list[object]]


class StartRecord:
    """What is known of one model, read in one way.

    Args:
        key: of the model's place and of the way it is read (``record_key``).
        sources: all files and folders that it was read from, there or not.
        files: what ``listed`` said of them before they were read.

    Attributes:
        facts: what reading it has shown.
        digests: ``weights_digest`` of its parts as they are on disk, by part.
        engines: keys of those that the last process has used, in order.
    """

    def __init__(self, key: str, sources: Iterable[Path], files: Listing, facts: Facts) -> None:
        self.facts = facts
        self.digests: dict[str, str] = {}
        self.engines: list[str] = []
        self.key = key
        self._sources = list(sources)
        self._files = files
        self._used: list[str] = []  # the engines that this process has used
        self._lock = threading.Lock()

    @classmethod
    def find(cls, key: str) -> StartRecord | None:
        """The record under ``key``; None where there is none, or the files are no longer those that it is of."""
        stored = record_cache().load(key)
        if stored is None:
            return None
        try:
            content = json.loads(stored)
            sources = [Path(source) for source in content["sources"]]
            record = cls(key, sources, content["files"], Facts.read(content["facts"]))
            record.digests, record.engines = content["digests"], content["engines"]
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            logger.warning("what is recorded of a model cannot be used (%s); it is read again", error)
            return None
        return record if record.is_true else None

    @property
    def is_true(self) -> bool:
        """Whether the files are still those that the record is of."""
        return listed(self._sources) == self._files

    @property
    def identity(self) -> str:
        """The same only for the same files, read in the same way."""
        return key_of(key=self.key, files=self._files)

    def add_digest(self, part: str, digest: str) -> None:
        """Keep the digest of a part's weights, which are those of the files."""
        with self._lock:
            if self.digests.get(part) != digest and self.is_true:
                self.digests = {**self.digests, part: digest}
                self._store()

    def add_engine(self, key: str) -> None:
        """Have the next process begin with this engine, too."""
        with self._lock:
            self._used = [*(one for one in self._used if one != key), key][-_MOST_ENGINES:]
            if set(self._used) != set(self.engines):
                self._store()

    def _store(self) -> None:
        content = {
            "sources": [str(source) for source in self._sources],
            "files": self._files,
            "facts": self.facts.written(),
            "digests": self.digests,
            "engines": self._used,
        }
        record_cache().store(self.key, json.dumps(content).encode())


def record_key(path: Path, **options: str) -> str:
    """The key of the model at ``path``, read with these options by these versions of all that reads it."""
    versions = [version(name) for name in ("torch", "diffusers", "transformers")]
    return key_of(path=real_path(path), options=options, versions=versions)


def listed(sources: Iterable[Path]) -> Listing:
    """What the system says of these files, and of all files in these folders."""
    found: Listing = []
    for source in sources:
        for path in _below(source) if is_folder(source) else [source]:
            try:
                status = path.stat()
            except OSError:
                found.append([str(path)])
                continue
            found.append([str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return found


def _below(folder: Path) -> list[Path]:
    """All files in ``folder`` and in the folders in it, also in those that a symbolic link leads to."""
    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        true = real_path(here)
        if true in seen:  # a link that leads back to where it lies
            folders.clear()
            continue
        seen.add(true)
        found += [Path(here, name) for name in names]
    return sorted(found)


def record_cache() -> FileCache:
    return FileCache(cache_folder() / "models", "model", _VERSION, _MOST_BYTES)
