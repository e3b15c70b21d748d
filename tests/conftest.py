"""What all tests share."""

from __future__ import annotations

import gc
import os
import tempfile
from importlib.util import find_spec

import pytest
import torch

from app.qt_libraries import missing_libraries

# The models of the tests are tiny: a pool of threads costs them more in hand-over than it saves.
torch.set_num_threads(1)

# Engines that tests build, also in processes that they start, are not for the user's cache.
_engines = tempfile.TemporaryDirectory(prefix="vitrail-engines-")
os.environ["VITRAIL_CACHE"] = _engines.name


def pytest_addoption(parser: pytest.Parser) -> None:
    """A bare machine may lack pytest-timeout, whose setting ``timeout`` would then be taken for a mistake."""
    if find_spec("pytest_timeout") is None:
        parser.addini("timeout", "seconds that a test may take, where pytest-timeout is installed")


def pytest_collection_finish() -> None:
    """What is imported by now stays: Python's collector need not go through it again in every test that calls it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Native libraries complain of what is left at the very end."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_built_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` runs the model itself: building engines for models of a few frames would cost more than the tests."""
    from pipeline.backends import selection
    from pipeline.backends.eager import EagerBackend

    monkeypatch.setattr(selection, "_best", lambda model, _: EagerBackend(model))


# A machine without Qt, or with a Qt that cannot open a window, runs all tests but those of the window.
pytest_plugins = ["pytestqt.plugin"] if find_spec("pytestqt") and not missing_libraries("offscreen") else []

# No test may depend on a hub that is there; those of the download run their own, on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
