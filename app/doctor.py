"""What this machine has for Vitrail, and what to do about what it lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.qt_libraries import how_to_install, missing_libraries

if TYPE_CHECKING:
    from rich.console import Console

_OLDEST_PYTHON = (3, 11)
_CUDA_WHEEL = "uv pip install --reinstall torch --torch-backend=auto"
_LIBRARIES = ("diffusers", "transformers", "safetensors", "numpy", "opencv-python-headless", "av", "mss", "PySide6")
_KIND = {"linux": "linux", "win32": "windows", "darwin": "macos"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: whether it is as it should be.
        title: what was looked at: ``Cameras``.
        detail: what was found, one sentence.
        advice: what to do about it; empty where there is nothing to do.
        essential: without it, Vitrail cannot work at all.
    """

    ok: bool
    title: str
    detail: str
    advice: str = ""
    essential: bool = False


def findings() -> list[Finding]:
    """Everything that was looked at, in the order to show it. Nothing that is missing or broken raises."""
    return [finding for title, probe in _probes() for finding in _examined(title, probe)]


def run(console: Console) -> int:
    """Print all findings as a table.

    Returns:
        0, or 1 where something essential is missing.
    """
    from rich.table import Table
    from rich.text import Text

    found = findings()
    table = Table(title="vitrail doctor", show_lines=True, title_justify="left")
    table.add_column("")
    table.add_column("What", no_wrap=True)
    table.add_column("Found, and what to do", overflow="fold")
    for finding in found:
        mark, style = ("ok", "green") if finding.ok else ("no", "bold red") if finding.essential else ("–", "yellow")
        detail = Text(finding.detail)
        if finding.advice:
            detail.append(f"\n→ {finding.advice}", style="cyan")
        table.add_row(Text(mark, style=style), finding.title, detail)
    console.print(table)
    broken = [finding.title for finding in found if finding.essential and not finding.ok]
    if broken:
        console.print(f"Vitrail cannot work here before this is set right: {', '.join(broken)}.")
    else:
        console.print("Vitrail works here; try: vitrail demo")
    return 1 if broken else 0


def _probes() -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    yield "Python", _python
    yield "Libraries", _libraries
    yield "Device", _device
    yield "OpenVINO", _openvino
    yield "Models", _models
    yield "Video files", _codecs
    yield "Cameras", _cameras
    yield "Display", _display
    yield "Virtual camera", _virtual_camera
    yield "Settings", _settings


def _examined(title: str, probe: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - made for machines on which anything may be broken
        what = f"{type(error).__name__}: {error}"
        return [Finding(False, title, f"This could not be examined ({what}).", "Install Vitrail again: uv sync", True)]


def _python() -> list[Finding]:
    version = platform.python_version()
    detail = f"{version} on {platform.system()} {platform.release()} ({platform.machine()})"
    if sys.version_info < _OLDEST_PYTHON:
        return [Finding(False, "Python", detail, "Vitrail needs Python 3.11 or later: uv python install 3.12", True)]
    return [Finding(True, "Python", detail, essential=True)]


def _libraries() -> list[Finding]:
    missing = []
    for name in _LIBRARIES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = f"uv pip install {' '.join(missing)}"
        return [Finding(False, "Libraries", f"Missing: {', '.join(missing)}.", advice, missing != ["PySide6"])]
    return [Finding(True, "Libraries", "All are installed.", essential=True)]


def _device() -> list[Finding]:
    if importlib.util.find_spec("torch") is None:
        return [Finding(False, "Device", "PyTorch is not installed.", "uv pip install torch", True)]
    import torch

    from pipeline.device import available_devices, choose_dtype, cpu_has_amx, number_format

    best = available_devices()[0]
    numbers = number_format(choose_dtype(torch.device(best)))
    detail = f"PyTorch {torch.__version__} runs on {_name_of(best)}, with {numbers}."
    if best != "cpu":
        return [Finding(True, "Device", detail, essential=True)]
    flags = ", ".join(name for name, there in (("AMX", cpu_has_amx()), ("AVX-512", _has_avx512())) if there)
    detail = f"{detail} It has {flags}." if flags else detail
    if shutil.which("nvidia-smi") is None:
        return [Finding(True, "Device", detail, "Live pictures want a GPU; clips of any length work without.", True)]
    if torch.version.cuda is None:
        why = "on Windows the default PyTorch has no CUDA" if sys.platform == "win32" else "this PyTorch has no CUDA"
        return [Finding(False, "Device", f"{detail} There is an NVIDIA GPU, but {why}.", _CUDA_WHEEL)]
    advice = f"This PyTorch is made for CUDA {torch.version.cuda}; update the NVIDIA driver to one that has it."
    return [Finding(False, "Device", f"{detail} There is an NVIDIA GPU, but PyTorch cannot use it.", advice)]


def _openvino() -> list[Finding]:
    """Where networks run on the CPU: in which number format that does it calculate."""
    from pipeline.backends.openvino.package import is_installed

    if importlib.util.find_spec("torch") is None:
        return []
    from pipeline.device import available_devices, number_format

    if available_devices() != ["cpu"]:
        return []
    if not is_installed():
        advice = "It runs models on a CPU about twice as fast as PyTorch: uv pip install 'vitrail[openvino]'"
        return [Finding(False, "OpenVINO", "It is not installed.", advice)]
    from pipeline.backends.openvino.formats import Trials, format_for

    times = Trials().times()
    chosen = format_for("CPU", None, times)
    detail = f"OpenVINO {importlib.metadata.version('openvino')} calculates in {number_format(chosen.floating)}"
    if chosen.eight_bits:
        *most, last = chosen.eight_bits
        parts = f"{', '.join(most)} and {last}" if most else last
        detail += f", and in int8 in the {parts} of models that state their bounds"
    if times is None:
        return [
            Finding(True, "OpenVINO", f"{detail}, by what the processor says of itself; the first start measures it.")
        ]
    measured = ", ".join(f"{name} {milliseconds:.1f} ms" for name, milliseconds in times.items())
    return [Finding(True, "OpenVINO", f"{detail}, as it measured here: {measured}.")]


def _name_of(device: str) -> str:
    import torch

    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"{torch.cuda.get_device_name(0)} ({memory:.0f} GiB)"
    if device == "xpu":
        return torch.xpu.get_device_name(0)
    if device == "mps":
        return "the Apple GPU"
    return f"the CPU ({os.cpu_count()} cores, {torch.get_num_threads()} threads)"


def _has_avx512() -> bool:
    import torch

    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _models() -> list[Finding]:
    from pipeline.models.loader import EMBEDDED_PATH

    advice = "Install Vitrail again, or name another model: vitrail demo --model FOLDER"
    weights = EMBEDDED_PATH / "unet" / "diffusion_pytorch_model.safetensors"
    if (EMBEDDED_PATH / "model_index.json").is_file() and weights.is_file():
        size = sum(path.stat().st_size for path in EMBEDDED_PATH.rglob("*") if path.is_file()) / 2**20
        embedded = Finding(True, "Models", f"The embedded model is there ({size:.0f} MiB).", essential=True)
    else:
        embedded = Finding(False, "Models", f"The embedded model is missing from {EMBEDDED_PATH}.", advice, True)
    cached = _cached_models()
    if not cached:
        return [embedded]
    return [embedded, Finding(True, "Models in the hub cache", ", ".join(cached))]


def _cached_models() -> list[str]:
    """Diffusers models in the Hugging Face cache, by name."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return []
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    found = [folder for folder in folders if any(folder.glob("snapshots/*/model_index.json"))]
    return sorted("/".join(folder.name.split("--")[1:]) for folder in found)


def _codecs() -> list[Finding]:
    import av
    from av.codec import codecs_available

    version = ".".join(str(part) for part in av.library_versions["libavcodec"])
    detail = f"PyAV {av.__version__} with libavcodec {version}"
    if "libx264" in codecs_available:
        return [Finding(True, "Video files", f"{detail}; writes H.264 and AAC.", essential=True)]
    advice = "uv pip install --reinstall --only-binary av av"
    return [Finding(False, "Video files", f"{detail}; it cannot write H.264, so MPEG-4 is written.", advice)]


def _cameras() -> list[Finding]:
    from app.cameras import cameras

    found = cameras()
    if found:
        listed = ", ".join(f"{camera.index}: {camera.name}" for camera in found)
        return [Finding(True, "Cameras", f"{listed}.")]
    advice = "Plug one in; a clip, a picture or a screen can be styled without."
    if sys.platform == "darwin":
        advice += " If there is one, allow it in System Settings, Privacy & Security, Camera."
    return [Finding(False, "Cameras", "None was found.", advice)]


def _display() -> list[Finding]:
    found = []
    if not sys.platform.startswith("linux"):
        found.append(Finding(True, "Display", f"{platform.system()} desktop."))
    elif os.environ.get("WAYLAND_DISPLAY"):
        reading = "windows and X11 programs' screens" if os.environ.get("DISPLAY") else "windows only"
        advice = "To style what is on the screen, log in to an X11 (Xorg) session."
        found.append(Finding(True, "Display", f"Wayland ({os.environ['WAYLAND_DISPLAY']}); {reading}.", advice))
    elif os.environ.get("DISPLAY"):
        found.append(Finding(True, "Display", f"X11 ({os.environ['DISPLAY']})."))
    else:
        advice = "The window needs a desktop session; vitrail demo and vitrail render do not."
        found.append(Finding(False, "Display", "There is none.", advice))
    return [*found, _window_toolkit()]


def _window_toolkit() -> Finding:
    if importlib.util.find_spec("PySide6") is None:
        return Finding(False, "Window", "PySide6 is not installed.", "uv pip install PySide6")
    missing = missing_libraries()
    if missing:
        names = ", ".join(library.name for library in missing)
        return Finding(False, "Window", f"Qt lacks these libraries of the system: {names}.", how_to_install(missing))
    return Finding(True, "Window", f"PySide6 {importlib.metadata.version('PySide6')} has all that it needs.")


def _virtual_camera() -> list[Finding]:
    driver, advice = _VIRTUAL_CAMERAS[_KIND.get(sys.platform, "linux")]()
    if driver and importlib.util.find_spec("pyvirtualcam") is None:
        detail = f"{driver}, but the package that writes to it is missing."
        return [Finding(False, "Virtual camera", detail, "uv sync --extra virtual-camera")]
    if driver:
        return [Finding(True, "Virtual camera", f"{driver}.")]
    detail = "There is no driver, so other programs cannot take Vitrail's picture as a camera."
    return [Finding(False, "Virtual camera", detail, advice)]


def _virtual_camera_on_linux() -> tuple[str, str]:
    devices = [path.parent for path in Path("/sys/devices/virtual/video4linux").glob("video*/name")]
    if devices:
        return f"v4l2loopback ({', '.join(sorted(path.name for path in devices))})", ""
    load = 'sudo modprobe v4l2loopback card_label="Vitrail" exclusive_caps=1'
    if any(Path("/lib/modules", platform.release()).rglob("v4l2loopback.ko*")):
        return "", f"The driver is installed but not loaded: {load}"
    return "", f"On Debian or Ubuntu: sudo apt install v4l2loopback-dkms, then {load}; on Fedora from RPM Fusion."


def _virtual_camera_on_windows() -> tuple[str, str]:
    program_files = [Path(os.environ[name]) for name in ("ProgramFiles", "ProgramFiles(x86)") if name in os.environ]
    plugin = Path("obs-studio", "data", "obs-plugins", "win-dshow", "obs-virtualcam-module64.dll")
    there = any((folder / plugin).is_file() for folder in program_files)
    return (
        "OBS Virtual Camera" if there else ""
    ), "Install OBS Studio, which brings one: winget install OBSProject.OBSStudio"


def _virtual_camera_on_mac() -> tuple[str, str]:
    there = Path("/Applications/OBS.app").is_dir()
    advice = "Install OBS Studio (brew install --cask obs) and start its virtual camera once."
    return ("OBS Virtual Camera" if there else ""), advice


_VIRTUAL_CAMERAS = {
    "linux": _virtual_camera_on_linux,
    "windows": _virtual_camera_on_windows,
    "macos": _virtual_camera_on_mac,
}


def _settings() -> list[Finding]:
    from app.settings import default_path

    folder = default_path().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        detail = f"{folder} cannot be written ({error.strerror}), so settings are forgotten at the end."
        return [Finding(False, "Settings", detail, f"Give yourself the right to write to {folder}.")]
    return [Finding(True, "Settings", f"Kept in {folder}.")]
