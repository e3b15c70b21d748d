"""Everything that is to be known of a CUDA machine, in one command of six minutes: ``.ci/gpu verify``.

It needs Python with torch, diffusers, transformers, OpenCV, rich, platformdirs, psutil and pytest; no window, no PyAV
and no network. Parts run one after the other, each in processes of its own with a time limit, so that one that fails,
hangs or runs out of memory leaves the others alone. ``OUT/verify.json`` is rewritten every few seconds, and
``OUT/verify.log`` holds all that they say. At the end stands what was measured beside what is wanted. The exit code
is 0 where all parts ran well to their end, whether or not the targets are met. To keep a run's results, copy
``verify.json`` to ``tests/benchmarks/results/verify-cuda.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.gpu_parts.job import Job, Results
from tests.benchmarks.gpu_parts.targets import figures

_ROOT = Path(__file__).resolve().parents[2]
# Of a part's last words, in the results; the log has all of them.
_TOLD_LINES = 12
# Seconds between two looks at what a part has found.
_EVERY = 2.0

# What is known of a part: whether it went well (``ok``, None while it runs), ``seconds``, ``results`` and ``error``.
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One part of the whole.

    Attributes:
        name: of its module in ``tests.benchmarks.gpu_parts``.
        least: seconds without which it is not begun; they are kept for it while others run.
        most: seconds after which it is ended.
        beside: the part that it runs beside, where that comes next; what is left of its own time then is waited for.
    """

    name: str
    least: float
    most: float
    beside: str = ""

    def command(self, folder: Path, seconds: float) -> list[str]:
        """What runs it."""
        module = "tests.benchmarks.gpu_parts"
        return [sys.executable, "-W", "ignore", "-m", module, self.name, str(folder), f"{seconds:.1f}"]


PARTS = (
    Part("prepare", least=20, most=150, beside="tests"),
    Part("tests", least=15, most=100),
    Part("speed", least=60, most=100),
    Part("guidance", least=20, most=50),
    Part("embedded", least=15, most=50),
    Part("sdxl", least=20, most=60),
    Part("sparse", least=20, most=70),
    Part("peers", least=45, most=80),
)


class Running:
    """A part's process, with all that it starts.

    Args:
        seconds: after which it is ended.
        environment: of the process.
        log: where its output goes.
    """

    def __init__(
        self, part: Part, folder: Path, seconds: float, environment: Mapping[str, str], log: IO[bytes]
    ) -> None:
        self.part = part
        self._results = folder / f"{part.name}.json"
        self._seconds = seconds
        self._log = log
        self._told = b""
        said = folder / f"{part.name}.log"
        with said.open("wb") as into:
            into.write(f"\n==== {part.name}\n".encode())
            into.flush()
            command = part.command(folder, seconds)
            self._began = time.monotonic()
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=into, stderr=into, start_new_session=True
            )
        self._said = said.open("rb")

    def outcomes(self) -> Iterator[Outcome]:
        """What it has found so far, every few seconds, and at last what came of it."""
        while self._process.poll() is None and self._lasted < self._seconds:
            yield self._outcome(ok=None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(_EVERY, max(0.0, self._seconds - self._lasted)))
        status = self._process.poll()
        self.end()
        outcome = self._outcome(ok=status == 0)
        if status != 0:
            how = f"it was not done after {self._seconds:.0f} s" if status is None else f"exit code {status}"
            last = self._told.decode(errors="replace").splitlines()[-_TOLD_LINES:]
            outcome["error"] = "\n".join([how, *last])
        yield outcome

    def end(self) -> None:
        """End its process, and all others that it has started."""
        if not self._said.closed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._listen()
            self._said.close()

    @property
    def _lasted(self) -> float:
        return time.monotonic() - self._began

    def _outcome(self, ok: bool | None) -> Outcome:
        self._listen()
        return {"ok": ok, "seconds": round(self._lasted, 1), "results": Results.read(self._results)}

    def _listen(self) -> None:
        if not self._said.closed:
            self._told += (new := self._said.read())
            self._log.write(new)
            self._log.flush()


def outcomes(
    parts: Sequence[Part], folder: Path, budget: float, environment: Mapping[str, str], log: IO[bytes]
) -> Generator[tuple[str, Outcome | None], None, None]:
    """Each part's name and outcomes, as ``Running.outcomes``; None where it no longer fits into ``budget`` seconds."""
    ends = time.monotonic() + budget
    with contextlib.ExitStack() as stack:
        beside: list[Running] = []
        for number, part in enumerate(parts):
            later = parts[number + 1 :]
            left = ends - time.monotonic()
            if left < part.least:
                yield part.name, None
                continue
            kept = 0.0 if later and part.beside == later[0].name else sum(other.least for other in later)
            running = Running(part, folder, min(part.most, max(part.least, left - kept)), environment, log)
            stack.callback(running.end)
            if later and part.beside == later[0].name:
                beside.append(running)
                continue
            for one in (running, *beside):
                for outcome in one.outcomes():
                    yield one.part.name, outcome
            beside.clear()


def main() -> None:
    """The command."""
    options = _options()
    out: Path = options.out
    parts = [part for part in PARTS if _wanted(part, options)]
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="vitrail-verify-") as name, (out / "verify.log").open("wb") as log:
        folder = Path(name)
        names = tuple(part.name for part in parts)
        Job(folder, parts=names, tiny=options.tiny, acceleration=options.acceleration, peers=options.peers).write()
        report = _run(parts, folder, options, log, console)
    summary(report, console)
    console.print(f"results: {out / 'verify.json'}, all output: {out / 'verify.log'}", soft_wrap=True)
    if report["left_out"] or not all(outcome["ok"] for outcome in report["parts"].values()):
        raise SystemExit(1)


def _run(
    parts: Sequence[Part], folder: Path, options: argparse.Namespace, log: IO[bytes], console: Console
) -> dict[str, Any]:
    """Run the parts, and keep ``verify.json`` up to date meanwhile; what it says at the end."""
    began = time.monotonic()
    report: dict[str, Any] = {}
    done: dict[str, Outcome] = {}
    left_out: list[str] = []
    environment = _environment(folder, options.tiny)
    with contextlib.closing(outcomes(parts, folder, options.seconds, environment, log)) as running:
        for part, outcome in running:
            if not report:  # to import torch takes seconds, in which the first part is under way by now
                report = _facts(options.tiny)
            if outcome is None:
                left_out.append(part)
                console.print(f"{part}: left out, as too little time is left")
            else:
                done[part] = outcome
                if outcome["ok"] is not None:
                    console.print(f"{part}: {'done' if outcome['ok'] else 'FAILED'} after {outcome['seconds']:.0f} s")
            report |= {"seconds": round(time.monotonic() - began, 1), "left_out": left_out, "parts": done}
            (options.out / "verify.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _facts(tiny: bool) -> dict[str, Any]:
    """Of the machine and this run; without a card, only a tiny one is of use."""
    from tests.benchmarks import machine

    facts = machine.describe()
    if facts["machine"]["gpu"] is None and not tiny:
        print("torch sees no CUDA device here; --tiny tries the command without one", file=sys.stderr)  # noqa: T201
        raise SystemExit(2)
    return {**facts, "tiny": tiny}


def summary(report: Mapping[str, Any], console: Console) -> None:
    """What was measured beside what is wanted, and what failed, in at most 60 lines."""
    results = {name: outcome["results"] for name, outcome in report["parts"].items()}
    table = Table("", "measured", "wanted", "met", box=None, padding=(0, 2, 0, 0))
    for target, value in figures(results):
        met = None if value is None else target.met(value)
        shown = "-" if value is None else f"{value:g} {target.unit}"
        table.add_row(target.name, shown, target.wanted(), "" if met is None else "yes" if met else "NO")
    console.print(table)
    if counts := results.get("tests", {}).get("counts"):
        console.print("tests: " + ", ".join(f"{count} {how}" for how, count in counts.items()))
    for name, outcome in report["parts"].items():
        if not outcome["ok"]:
            first, *others = outcome["error"].splitlines()
            for line in (f"{name} failed: {first}", *(f"    {line}" for line in others[-2:])):
                console.print(line[:100], markup=False, highlight=False)
    if report["left_out"]:
        console.print(f"left out, as too little time was left: {', '.join(report['left_out'])}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=".ci/gpu verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS if not part.beside]
    parser.add_argument("out", nargs="?", type=Path, default=Path("gpu-verify"), metavar="OUT", help="a folder")
    parser.add_argument(
        "--peers", type=_folder, metavar="FOLDER", help="StreamDiffusion's packages: what '.ci/gpu peers FOLDER' makes"
    )
    parser.add_argument("--seconds", type=float, default=350, help="for everything; what no longer fits is left out")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--acceleration", help="to be measured instead of each part's own choice")
    parser.add_argument("--tiny", action="store_true", help="tiny models, on any device: tries the command itself")
    options = parser.parse_args()
    if options.only != names and "peers" in options.only and options.peers is None:
        parser.error("for the part 'peers', say with --peers where its packages are")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"the folder {options.out} cannot be made: {error.strerror}")
    return options


def _folder(name: str) -> Path:
    if not Path(name).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {name!r}; '.ci/gpu peers {name}' makes it")
    return Path(name).resolve()


def _wanted(part: Part, options: argparse.Namespace) -> bool:
    if part.name == "prepare":
        return {*options.only} != {"tests"}
    return part.name in options.only and (part.name != "peers" or options.peers is not None)


def _environment(folder: Path, tiny: bool) -> dict[str, str]:
    """Of all parts. What is built is built for this run, as at a user's first start, and shared by them."""
    caches = ("VITRAIL_CACHE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    changed = {name: str(folder / name.lower()) for name in caches} | {"HF_HUB_OFFLINE": "1"}
    if tiny:  # a pool of threads costs tiny models more in hand-over than it saves
        changed["OMP_NUM_THREADS"] = "1"
    found = {**os.environ, **changed}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # else each part would compile all of torch's Python
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no part outlives this
    main()
