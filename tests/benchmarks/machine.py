"""What a measurement was taken on: every result file says it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
_UNKNOWN = "unknown"
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "diffusers", "transformers", "openvino", "torch-tensorrt", "numpy")


def describe() -> dict[str, Any]:
    """Machine, versions, commit and date, JSON-able."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "command": f"python -m {_module()} {' '.join(sys.argv[1:])}".strip(),
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"system": platform.system(), "cpu": _cpu(), "cores": torch.get_num_threads(), "gpu": gpu}


def measured_before(name: str) -> dict[str, Any]:
    """What ``save`` wrote, where it was measured on this very commit; else nothing."""
    path = _path(name)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if found.get("commit") == _commit() != _UNKNOWN else {}


def save(name: str, results: dict[str, Any]) -> Path:
    """Write ``results/NAME-cpu.json`` or ``-cuda.json``, with the machine beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = _path(name)
    path.write_text(json.dumps({**describe(), **results}, indent=2) + "\n", encoding="utf-8")
    return path


def _path(name: str) -> Path:
    return RESULTS / f"{name}-{'cuda' if torch.cuda.is_available() else 'cpu'}.json"


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem


def _commit() -> str:
    """The commit, with a ``+`` where the working tree differs from it; in a copy without its history, ``_UNKNOWN``."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=_ROOT, check=False, capture_output=True, text=True)
        except OSError:  # no git here
            return ""
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "app", "pipeline", "assets")
    return (git("rev-parse", "--short", "HEAD") or _UNKNOWN) + ("+" if changed else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
