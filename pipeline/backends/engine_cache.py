"""Built engines on disk: found again by what they were built from (see ``pipeline.file_cache``)."""

from __future__ import annotations

from pathlib import Path

from pipeline.file_cache import FileCache, cache_folder

# All engines together take at most so much; one of a large model takes gigabytes.
MOST_BYTES = 16 * 2**30
_VERSION = 1


def default_folder() -> Path:
    """Where engines are kept."""
    return cache_folder() / "engines"


class EngineCache(FileCache):
    """Engines by key (``pipeline.file_cache.key_of``).

    Args:
        folder: by default the one in the user's own cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder or default_folder(), "engine", _VERSION, MOST_BYTES)
