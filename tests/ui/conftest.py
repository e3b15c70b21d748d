"""Qt without a screen."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def qapp_args() -> list[str]:
    """As arguments and not in the environment, which the processes that other tests start would inherit."""
    return ["vitrail-tests", "-platform", "offscreen"]
