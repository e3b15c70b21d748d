"""What all tests share.

Tests that need no torch do not wait for it: nothing here imports it, and what is said to it is said at its import.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pytest

from app.qt_libraries import missing_libraries

_SELECTION = "pipeline.backends.selection"

# The models of the tests are tiny: a pool of threads costs them more in hand-over than it saves. Torch reads this as it
# is imported, here and in the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# Engines that tests build, also in processes that they start, are not for the user's cache.
_engines = tempfile.TemporaryDirectory(prefix="vitrail-engines-")
os.environ["VITRAIL_CACHE"] = _engines.name


def pytest_addoption(parser: pytest.Parser) -> None:
    """A bare machine may lack pytest-timeout, whose setting ``timeout`` would then be taken for a mistake."""
    if importlib.util.find_spec("pytest_timeout") is None:
        parser.addini("timeout", "seconds that a test may take, where pytest-timeout is installed")


def pytest_collection_finish() -> None:
    """What is imported by now stays: Python's collector need not go through it again in every test that calls it."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Native libraries complain of what is left at the very end."""
    gc.unfreeze()
    plugins = session.config.pluginmanager
    if "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        plugins.unregister(name="hypothesispytest")  # it would import all of Hypothesis to report that it was not used


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A worker's report travels as UTF-8, which lone surrogates are not; tests of such names print and log them."""
    report = yield
    report.sections = [(title, _encodable(text)) for title, text in report.sections]
    if report.failed and report.longrepr is not None and _encodable(report.longreprtext) != report.longreprtext:
        report.longrepr = _encodable(report.longreprtext)
    return report


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@pytest.fixture(autouse=True)
def nothing_is_built_unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``auto`` runs the model itself: building engines for models of a few frames would cost more than the tests."""

    def run_the_model_itself(selection: ModuleType) -> None:
        from pipeline.backends.eager import EagerBackend

        monkeypatch.setattr(selection, "_best", lambda model, _: EagerBackend(model))

    if _SELECTION in sys.modules:
        run_the_model_itself(sys.modules[_SELECTION])
        yield
    else:
        with _at_import(_SELECTION, run_the_model_itself):
            yield


@contextmanager
def _at_import(name: str, act: Callable[[ModuleType], None]) -> Iterator[None]:
    """``act`` on the module of this name as soon as it is imported, if it is, while this is entered."""
    finder = _Finder(name, act)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def __init__(self, name: str, act: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._act = act

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == self._name else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Acting(spec.loader, self._act)
        return spec


class _Acting(Loader):
    def __init__(self, loader: Loader, act: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._act = act

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._act(module)


# A machine without Qt, or with a Qt that cannot open a window, runs all tests but those of the window.
pytest_plugins = (
    ["pytestqt.plugin"] if importlib.util.find_spec("pytestqt") and not missing_libraries("offscreen") else []
)

# No test may depend on a hub that is there; those of the download run their own, on loopback.
os.environ["HF_HUB_OFFLINE"] = "1"
