"""Runs ``openvino_build.py`` in a process of its own, and ends it where it is no longer wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from pipeline.acceleration import openvino_build

_SECONDS = 900


class StoppedError(RuntimeError):
    """What was being compiled is not wanted any more."""


class Compiler:
    """One compilation at a time, in another process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None

    def compile(self, graph: Path, device: str, config: dict[str, str], niceness: int = 5) -> bytes:
        """The blob of ``graph`` (.xml, its weights beside it).

        Args:
            niceness: of the process, 0..19; the higher, the less it slows others down.

        Raises:
            RuntimeError: OpenVINO cannot compile it, or has crashed twice.
            StoppedError: see ``stop``.
        """
        out = graph.with_suffix(".blob")
        code, complaint = self._run(graph, out, device, config, niceness)
        if _crashed(code) and not self._stopped:
            # OpenVINO 2026.4 crashes on attention in float32 with its fused kernels ("snippets").
            code, complaint = self._run(graph, out, device, {**config, "SNIPPETS_MODE": "DISABLE"}, niceness)
        if self._stopped:
            raise StoppedError("it is not wanted any more")
        if code:
            lines = complaint.strip().splitlines()
            raise RuntimeError(lines[-1] if lines and not _crashed(code) else f"OpenVINO's compiler crashed ({code})")
        return out.read_bytes()

    def stop(self) -> None:
        """End what is running; nothing is compiled after this."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _run(self, graph: Path, out: Path, device: str, config: dict[str, str], niceness: int) -> tuple[int, str]:
        # -P keeps this folder, whose files are named after what they wrap, from being searched for modules.
        command = [sys.executable, "-P", openvino_build.__file__, str(graph), str(out), device, json.dumps(config)]
        command.append(str(niceness))
        hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        with self._lock:
            if self._stopped:
                return 1, ""
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, creationflags=hidden
            )
        try:
            _, complaint = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RuntimeError(f"OpenVINO's compiler was not done after {_SECONDS} seconds") from None
        return self._process.returncode, complaint


def _crashed(code: int) -> bool:
    """Whether a process was ended by a signal (POSIX) or an exception of the processor's (Windows)."""
    return code < 0 or code > 255
