"""Models that tests have written, each once for all tests of a file."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ``tests.checkpoints.shelved`` writes models to."""
    return tmp_path_factory.mktemp("models")
