"""Has ``build.py`` compile graphs in processes of its own, and ends them where they are no longer wanted."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.backends.beside import creation_flags
from pipeline.backends.openvino import build as openvino_build

_SECONDS = 900

Process = subprocess.Popen[str]


class StoppedError(RuntimeError):
    """What was being compiled is not wanted any more."""


class GaveWayError(RuntimeError):
    """What was being compiled in the background has made way for something that is needed now; try it again."""


class Compiler:
    """Compiles one graph at a time, in another process, which stays for a while, as mostly several graphs follow."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopped = False
        self._busy = False
        self._urgent = 0  # how many have or wait for a turn that is not in the background
        self._processes: dict[bool, Process] = {}  # by whether they work in the background
        self._working = False  # whether the process of this turn is at work
        self._background = False  # whether this turn is in the background
        weakref.finalize(self, _end_all, self._processes)

    @contextmanager
    def turn(self, background: bool = False) -> Iterator[None]:
        """One caller at a time is inside; ``compile`` is called there.

        A turn that is not in the background never waits for one that is: it ends that compilation, which is begun again
        later (``GaveWayError``). What is compiled in the background gets the processor only while nobody else wants it,
        where the system has that (Linux, Windows), and so may never be done while a stream runs.
        """
        with self._changed:
            if not background:
                self._urgent += 1
                if self._working and self._background:
                    self._processes[True].kill()
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
        out: Path,
        device: str,
        config: dict[str, str],
        shapes: Sequence[Sequence[int]] | None = None,
    ) -> bytes:
        """The blob of ``graph`` (.xml, its weights beside it).

        Args:
            out: a file to hand it over in.
            shapes: of all inputs, in place of those that the graph was written for; None for these.

        Raises:
            RuntimeError: OpenVINO cannot compile it, or has crashed twice.
            GaveWayError: see ``turn``.
            StoppedError: see ``stop``.
        """
        job: dict[str, object] = {"graph": str(graph), "out": str(out), "device": device, "config": config}
        job["shapes"] = None if shapes is None else [list(shape) for shape in shapes]
        answer = self._ask(job)
        if answer is None:
            # OpenVINO 2026.4 crashes on attention in float32 with its fused kernels ("snippets").
            answer = self._ask(job | {"config": {**config, "SNIPPETS_MODE": "DISABLE"}})
        if answer is None:
            raise RuntimeError("OpenVINO's compiler crashed")
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return out.read_bytes()

    def stop(self) -> None:
        """End what is running; nothing is compiled after this."""
        with self._changed:
            self._stopped = True
            _end_all(self._processes)

    def _ask(self, job: dict[str, object]) -> dict[str, str] | None:
        """The answer to a job; None where the process has crashed."""
        while True:
            with self._changed:
                self._give_up()
                process, new = self._process()
                self._working = True
            late = threading.Timer(_SECONDS, process.kill)
            if not self._background:
                late.start()
            answer = _answer(process, json.dumps(job))
            in_time = late.is_alive() or self._background
            late.cancel()
            with self._changed:
                self._working = False
                if answer.endswith("\n"):
                    return json.loads(answer)
                self._give_up()
            if not in_time:
                raise RuntimeError(f"OpenVINO's compiler was not done after {_SECONDS} seconds")
            if process.wait() or new:
                return None
            # It had just ended, after a while with nothing to do.

    def _process(self) -> tuple[Process, bool]:
        """The process of this turn, and whether it is a new one."""
        process = self._processes.get(self._background)
        if process is not None and process.poll() is None:
            return process, False
        if process is not None:
            _end(process)
        process = self._processes[self._background] = _start(self._background)
        return process, True

    def _give_up(self) -> None:
        if self._stopped:
            raise StoppedError("it is not wanted any more")
        if self._background and self._urgent:
            raise GaveWayError("something is needed now")


def _start(background: bool) -> Process:
    # -P keeps this folder, whose files are named after what they wrap, from being searched for modules.
    command = [sys.executable, "-P", openvino_build.__file__, *(["background"] if background else [])]
    flags = creation_flags(idle=background)
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, text=True, creationflags=flags)


def _answer(process: Process, job: str) -> str:
    """The line that answers a line; without its end where the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(job + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except (OSError, ValueError):  # a pipe that leads nowhere, or has been closed
        return ""


def _end(process: Process) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was written last cannot be handed over
            if pipe is not None:
                pipe.close()


def _end_all(processes: dict[bool, Process]) -> None:
    for process in processes.values():
        _end(process)
