"""The tests that need a CUDA device, each outcome noted as it comes, so that one that hangs loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.gpu_parts.job import Job, Results

_TESTS = Path(__file__).resolve().parents[2]
_SECONDS_A_TEST = 60


class Noted:
    """Writes down how each test ended."""

    def __init__(self, results: Results) -> None:
        self._results = results
        results["counts"] = {"passed": 0, "failed": 0, "skipped": 0}
        results["failed"] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A hook: a phase of a test is over. One that fails outside of its own call has failed, too."""
        if report.when != "call" and report.outcome == "passed":
            return
        self._results.part("counts")[report.outcome] += 1
        if report.failed:
            self._results.found["failed"].append(report.nodeid)
        self._results.save()


def measure(_: Job, results: Results) -> None:
    """Run them all, whichever fail.

    Only files that hold such tests are read: the others need packages that a bare machine has not.
    """
    files = [str(path) for path in sorted((_TESTS / "pipeline").rglob("test_*.py")) if _marked(path)]
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-o", f"timeout={_SECONDS_A_TEST}", "--tb=short"]
    status = pytest.main([*options, *files], plugins=[Noted(results)])
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"pytest ended with {pytest.ExitCode(status).name}; failed: {results.found['failed']}")


def _marked(path: Path) -> bool:
    return "pytest.mark.gpu" in path.read_text(encoding="utf-8")
