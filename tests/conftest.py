"""What all tests share."""

from __future__ import annotations

import gc
import os
import tempfile

import pytest
import torch

from app.qt_libraries import missing_libraries

# The models of the tests are tiny: a pool of threads costs them more in hand-over than it saves.
torch.set_num_threads(1)

# Engines that tests build, also in processes that they start, are not for the user's cache.
_engines = tempfile.TemporaryDirectory(prefix="vitrail-engines-")
os.environ["VITRAIL_CACHE"] = _engines.name


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


pytest_plugins = [] if missing_libraries("offscreen") else ["pytestqt.plugin"]

# No test may depend on a hub that is there; those of the download run their own, on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
