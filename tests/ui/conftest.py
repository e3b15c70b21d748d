"""Qt without a screen, patience, and an end to every window."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.ui.patience import PatientBot


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    """As arguments and not in the environment, which the processes that other tests start would inherit."""
    return ["vitrail-tests", "-platform", "offscreen"]


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a window reads and keeps is not the user's own. The folder that stands for all of theirs."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    return home


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
