"""Runs ``openvino_build.py`` in a process of its own, and ends it where it is no longer wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

    def compile(
        self,
        graph: Path,
        device: str,
        config: dict[str, str],
        shapes: Sequence[Sequence[int]] | None = None,
        background: bool = False,
    ) -> bytes:
        """The blob of ``graph`` (.xml, its weights beside it).

        Args:
            shapes: of all inputs, in place of those that the graph was written for; None for these.
            background: only while nobody else wants the processor, where the system has that (Linux).

        Raises:
            RuntimeError: OpenVINO cannot compile it, or has crashed twice.
            StoppedError: see ``stop``.
        """
        out = graph.with_suffix(".blob")
        job = {"graph": str(graph), "out": str(out), "device": device, "config": config, "background": background}
        job["shapes"] = None if shapes is None else [list(shape) for shape in shapes]
        code, complaint = self._run(job)
        if _crashed(code) and not self._stopped:
            # OpenVINO 2026.4 crashes on attention in float32 with its fused kernels ("snippets").
            code, complaint = self._run(job | {"config": {**config, "SNIPPETS_MODE": "DISABLE"}})
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

    def _run(self, job: dict[str, Any]) -> tuple[int, str]:
        # -P keeps this folder, whose files are named after what they wrap, from being searched for modules.
        command = [sys.executable, "-P", openvino_build.__file__, json.dumps(job)]
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
