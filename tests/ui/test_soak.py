"""The random user, for a few seconds; ``python -m tests.ui.soak`` has them stay."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

from pathlib import Path

import pytest

from tests.ui.soak import Report, soak

SECONDS = 5.0


@pytest.mark.usefixtures("qapp")
def test_a_random_user_meets_no_error(tmp_path: Path):
    report = soak(SECONDS, 7, tmp_path)
    assert report.problems == []
    assert report.flat is None  # in so short a time nothing is said of memory: tests/app/soak.py does
    assert report.frames > 0
    assert sum(report.acts.values()) > 5


def test_growth_is_measured_after_warm_up():
    report = Report(memory_mb=[(float(at), 100.0 if at < 90 else 200.0 + at / 3) for at in range(301)])
    assert report.growth_mb() == pytest.approx(45, abs=2)
    assert report.flat is False
    warm = Report(memory_mb=[(float(at), min(1000.0, 500.0 + 10 * at)) for at in range(301)])
    assert warm.flat is True
    assert Report().growth_mb() == 0
    assert Report().flat is None  # nobody may take a short run for a flat one
