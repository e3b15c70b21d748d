"""Fixtures that several sources share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.app.desktop import Desktop, run_xvfb


@pytest.fixture
def xvfb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    yield from run_xvfb(monkeypatch)
