"""The real program on a real window system (Qt's ``xcb`` on Xvfb), in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.qt_libraries import how_to_install, missing_libraries
from tests.app.desktop import Desktop, run_xvfb

if not sys.platform.startswith("linux"):
    pytest.skip("X11 is of Linux", allow_module_level=True)
if missing := missing_libraries("xcb"):
    pytest.skip(f"Qt lacks libraries; {how_to_install(missing)}", allow_module_level=True)

WIDTH, HEIGHT = 2560, 800  # two monitors side by side


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    yield from run_xvfb(monkeypatch, WIDTH, HEIGHT)


@pytest.mark.timeout(240)
def test_the_window_is_opened_typed_into_clicked_resized_filled_moved_grabbed_and_closed(
    desktop: Desktop, tmp_path: Path, a_home_of_its_own: Path
):
    desktop.split()
    environment = os.environ | {"QT_QPA_PLATFORM": "xcb"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.smoke", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text(encoding="utf-8"))
    assert "error" not in seen, seen
    assert (seen["platform"], seen["icon"], seen["desktop_file"]) == ("xcb", True, "vitrail")
    assert seen["typed"] == "neon lights"
    assert seen["style"][1]
    assert seen["colours"] > 100  # a picture, and not a plain ground
    assert not seen["bars"]
    assert seen["screens"] == [[0, 0, WIDTH // 2, HEIGHT], [WIDTH // 2, 0, WIDTH // 2, HEIGHT]]
    assert seen["feed"] > 100
    assert (seen["code"], seen["warnings"], seen["threads"]) == (0, [], [])
    assert list(a_home_of_its_own.rglob("settings.json"))  # kept at the end
