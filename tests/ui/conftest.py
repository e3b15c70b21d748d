"""Qt without a screen; skipped where the system lacks Qt's libraries."""

from __future__ import annotations

import pytest

from app.qt_libraries import how_to_install, missing_libraries

MISSING = missing_libraries("offscreen")

# Without its libraries Qt cannot even be imported, which these modules do.
collect_ignore = ["test_bridge.py", "test_main.py", "test_widgets.py", "test_window.py"] if MISSING else []


def pytest_report_header() -> str | None:
    """Say why the window is not tested, if it is not."""
    return f"the window is not tested, because Qt lacks libraries; {how_to_install(MISSING)}" if MISSING else None


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    """As arguments and not in the environment, which the processes that other tests start would inherit."""
    return ["vitrail-tests", "-platform", "offscreen"]
