"""Runs ``openvino_build.py`` in a process of its own, and ends it where it is no longer wanted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.acceleration import openvino_build

_SECONDS = 900


class StoppedError(RuntimeError):
    """What was being compiled is not wanted any more."""


class GaveWayError(RuntimeError):
    """What was being compiled in the background has made way for something that is needed now; try it again."""


class Compiler:
    """One compilation at a time, in another process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._busy = False
        self._urgent = 0  # who has a turn, or waits for one, that is not in the background
        self._process: subprocess.Popen[str] | None = None
        self._background = False  # who has the turn

    @contextmanager
    def turn(self, background: bool = False) -> Iterator[None]:
        """One caller at a time is inside; ``compile`` is called there.

        What is compiled in the background gets the processor only while nobody else wants it, where the system has that
        (Linux, Windows). It comes to no end while a stream takes all of it: whoever comes with something that is needed
        now does not wait, but has it begin again later.
        """
        with self._changed:
            if not background:
                self._urgent += 1
                if self._process is not None and self._background:
                    self._process.kill()
            self._changed.wait_for(lambda: not self._busy and not (background and self._urgent))
            self._busy, self._background = True, background
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._urgent -= not background
                self._changed.notify_all()

    def compile(
        self,
        graph: Path,
        device: str,
        config: dict[str, str],
        shapes: Sequence[Sequence[int]] | None = None,
    ) -> bytes:
        """The blob of ``graph`` (.xml, its weights beside it).

        Args:
            shapes: of all inputs, in place of those that the graph was written for; None for these.

        Raises:
            RuntimeError: OpenVINO cannot compile it, or has crashed twice.
            GaveWayError: see ``turn``.
            StoppedError: see ``stop``.
        """
        out = graph.with_suffix(".blob")
        job = {"graph": str(graph), "out": str(out), "device": device, "config": config}
        job["shapes"] = None if shapes is None else [list(shape) for shape in shapes]
        job["background"] = self._background
        code, complaint = self._run(job)
        if _crashed(code):
            # OpenVINO 2026.4 crashes on attention in float32 with its fused kernels ("snippets").
            code, complaint = self._run(job | {"config": {**config, "SNIPPETS_MODE": "DISABLE"}})
        if code:
            lines = complaint.strip().splitlines()
            raise RuntimeError(lines[-1] if lines and not _crashed(code) else f"OpenVINO's compiler crashed ({code})")
        return out.read_bytes()

    def stop(self) -> None:
        """End what is running; nothing is compiled after this."""
        with self._changed:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _run(self, job: dict[str, Any]) -> tuple[int, str]:
        """The exit status, and what was written to the standard error."""
        # -P keeps this folder, whose files are named after what they wrap, from being searched for modules.
        command = [sys.executable, "-P", openvino_build.__file__, json.dumps(job)]
        # On Windows; elsewhere the script itself steps back.
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        flags |= getattr(subprocess, "IDLE_PRIORITY_CLASS" if self._background else "BELOW_NORMAL_PRIORITY_CLASS", 0)
        with self._changed:
            self._give_up()
            process = self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, creationflags=flags
            )
        try:
            _, complaint = process.communicate(timeout=None if self._background else _SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise RuntimeError(f"OpenVINO's compiler was not done after {_SECONDS} seconds") from None
        with self._changed:
            self._process = None
            if process.returncode:
                self._give_up()
        return process.returncode, complaint

    def _give_up(self) -> None:
        if self._stopped:
            raise StoppedError("it is not wanted any more")
        if self._background and self._urgent:
            raise GaveWayError("something is needed now")


def _crashed(code: int) -> bool:
    """Whether a process was ended by a signal (POSIX) or an exception of the processor's (Windows)."""
    return code < 0 or code > 255
