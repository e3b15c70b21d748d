"""The doctor: what it says of a machine, whatever is missing there."""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from app import doctor, qt_libraries
from app.cameras import Camera
from app.doctor import Finding
from pipeline.device import available_devices


def named(title: str) -> Finding:
    return next(finding for finding in doctor.findings() if finding.title == title)


def printed() -> tuple[int, str]:
    console = Console(record=True, width=120, file=io.StringIO())
    code = doctor.run(console)
    return code, console.export_text()


def lack_packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Nothing is installed; what must be found missing then."""

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return {"Libraries", "Device", "Window"}


def lack_devices(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Nothing is plugged in, there is no driver and no desktop."""
    monkeypatch.setattr("app.cameras.cameras", list)
    monkeypatch.setattr("pipeline.backends.openvino.package.is_installed", lambda: False)
    for system in ("linux", "windows", "macos"):
        monkeypatch.setitem(doctor._VIRTUAL_CAMERAS, system, lambda: ("", "Install it."))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    display = {"Display"} if sys.platform.startswith("linux") else set()
    openvino = {"OpenVINO"} if available_devices() == ["cpu"] else set()
    return {"Cameras", "Virtual camera"} | display | openvino


def lack_files(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The model is gone, and nothing can be written."""
    monkeypatch.setattr("pipeline.models.loader.EMBEDDED_PATH", Path("nowhere"))
    monkeypatch.setattr("app.settings.default_path", lambda: Path("/dev/null/settings.json"))
    return {"Models", "Settings"}


@pytest.mark.parametrize("lack", [lack_packages, lack_devices, lack_files])
def test_every_lack_comes_with_advice(lack: Callable[[pytest.MonkeyPatch], set[str]], monkeypatch: pytest.MonkeyPatch):
    expected = lack(monkeypatch)
    lacking = [finding for finding in doctor.findings() if not finding.ok]
    assert expected <= {finding.title for finding in lacking}
    assert [finding.title for finding in lacking if not finding.advice or not finding.detail] == []


def test_cameras_are_listed_by_number_and_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.cameras.cameras", lambda: [Camera(0, "Lid"), Camera(2, "Logi C920")])
    assert named("Cameras").detail == "0: Lid, 2: Logi C920."


def test_a_probe_that_breaks_is_a_finding_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch):
    def broken() -> list[Camera]:
        raise OSError("driver on fire")

    monkeypatch.setattr("app.cameras.cameras", broken)
    finding = named("Cameras")
    assert not finding.ok
    assert "driver on fire" in finding.detail


def test_without_any_library_it_still_speaks(monkeypatch: pytest.MonkeyPatch):
    real_import, real_spec = builtins.__import__, importlib.util.find_spec
    gone = {"torch", "av", "cv2", "PySide6", "mss", "huggingface_hub"}

    def refuse(name: str, *rest, **options):
        if name.partition(".")[0] in gone:
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in gone else real_spec(name, *rest)
    )
    code, text = printed()
    assert code == 1
    assert "PyTorch is not installed" in text
    assert "Vitrail cannot work here before this is set right" in text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_without_a_display_it_names_what_works(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    finding = named("Display")
    assert not finding.ok
    assert "vitrail render do not" in finding.advice


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere Qt brings all its libraries")
def test_a_missing_library_is_named_with_its_packages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    monkeypatch.setattr(qt_libraries, "_loads", lambda name: name != "libxcb-cursor.so.0")
    finding = named("Window")
    assert not finding.ok
    assert "libxcb-cursor.so.0" in finding.detail
    assert "apt install libxcb-cursor0" in finding.advice
    assert "dnf install xcb-util-cursor" in finding.advice


def test_only_x11_needs_the_libraries_of_x11(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(qt_libraries, "_loads", lambda name: "xcb" not in name)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert qt_libraries.missing_libraries() == []
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    assert "libxcb-cursor.so.0" in [library.name for library in qt_libraries.missing_libraries()]


def test_a_missing_embedded_model_is_essential(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("pipeline.models.loader.EMBEDDED_PATH", tmp_path)
    finding = named("Models")
    assert not finding.ok
    assert finding.essential


def test_models_in_the_hub_cache_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, file in (("models--stabilityai--sd-turbo", "model_index.json"), ("models--bert--base", "config.json")):
        (tmp_path / name / "snapshots" / "abc").mkdir(parents=True)
        (tmp_path / name / "snapshots" / "abc" / file).touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert named("Models in the hub cache").detail == "stabilityai/sd-turbo"


def test_a_virtual_camera_needs_driver_and_package(monkeypatch: pytest.MonkeyPatch):
    for system in ("linux", "windows", "macos"):
        monkeypatch.setitem(doctor._VIRTUAL_CAMERAS, system, lambda: ("A driver", ""))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    assert named("Virtual camera").advice == "uv sync --extra virtual-camera"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: object())
    assert named("Virtual camera").ok
    for system in ("linux", "windows", "macos"):
        monkeypatch.setitem(doctor._VIRTUAL_CAMERAS, system, lambda: ("", "Install it."))
    assert named("Virtual camera").advice == "Install it."


def test_settings_that_cannot_be_kept_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("app.settings.default_path", lambda: tmp_path / "file" / "settings.json")
    finding = named("Settings")
    assert not finding.ok
    assert "cannot be written" in finding.detail


def test_the_table_shows_every_finding_and_the_verdict(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        doctor, "findings", lambda: [Finding(True, "Good", "Fine."), Finding(False, "Bad", "Gone.", "Buy.")]
    )
    code, text = printed()
    assert code == 0
    for part in ("Good", "Fine.", "Bad", "Gone.", "→ Buy.", "Vitrail works here"):
        assert part in text
