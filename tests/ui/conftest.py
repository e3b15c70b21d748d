"""Qt without a screen, patience, and an end to every window."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.ui.patience import PatientBot


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    """As arguments and not in the environment, which the processes that other tests start would inherit."""
    return ["vitrail-tests", "-platform", "offscreen"]


@pytest.fixture
def qtbot(qapp: object, request: pytest.FixtureRequest) -> PatientBot:
    """In the place of pytest-qt's own."""
    from tests.ui.patience import PatientBot  # not above: the system may lack libraries of Qt's

    del qapp
    return PatientBot(request)


@pytest.fixture(autouse=True)
def no_window_outlives_its_test() -> Iterator[None]:
    """Threads of a window that a failed test left open would bring the process down as it ends."""
    yield
    if "PySide6.QtWidgets" in sys.modules:
        from tests.ui.patience import end_windows

        end_windows()
