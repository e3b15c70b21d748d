"""What a part is told, and where it puts what it finds. The command itself needs it: it imports nothing slow."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """The same for all parts of a run, but for the seconds.

    Attributes:
        folder: where models, packages and results lie while all is measured.
        seconds: that this part may take.
        parts: all that are to run.
        tiny: whether tiny models and few frames are taken, so that it is the command that is tried.
        acceleration: that is to be measured instead of the part's own choice.
        peers: the folder of StreamDiffusion's packages.
        started: when this part began, by ``time.perf_counter()``.
    """

    folder: Path
    seconds: float = 60.0
    parts: tuple[str, ...] = ()
    tiny: bool = False
    acceleration: str | None = None
    peers: Path | None = None
    started: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def left(self) -> float:
        """Seconds that this part still has."""
        return self.seconds - (time.perf_counter() - self.started)

    @property
    def model(self) -> str:
        """Stable Diffusion Turbo's architecture."""
        return str(self.folder / "sd-turbo")

    @property
    def embedded(self) -> str:
        """The embedded model; its stand-in among the tiny ones."""
        return self.model if self.tiny else "embedded"

    @property
    def narrow_sdxl(self) -> str:
        """A model of SDXL's kind with its text widths, whose UNet is narrow."""
        return str(self.folder / "sdxl")

    def size(self, wanted: int = 512) -> int:
        """Side of the pictures in pixels."""
        return 64 if self.tiny else wanted

    def count(self, wanted: int) -> int:
        """How many rounds or frames: few where it is the command that is tried."""
        return 2 if self.tiny else wanted

    def write(self) -> None:
        """Put this where the processes of the parts find it."""
        told = {**asdict(self), "folder": str(self.folder), "peers": self.peers and str(self.peers)}
        del told["started"], told["seconds"]
        _job_file(self.folder).write_text(json.dumps(told), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, seconds: float) -> Job:
        """What ``write`` put into ``folder``, for a part that begins now."""
        told = json.loads(_job_file(folder).read_text(encoding="utf-8"))
        told |= {"folder": folder, "parts": tuple(told["parts"]), "peers": told["peers"] and Path(told["peers"])}
        return cls(**told, seconds=seconds)


class Results:
    """What a part has found so far, by name; ``path`` is rewritten with all of it at each figure."""

    def __init__(self, path: Path) -> None:
        self.found: dict[str, Any] = {}  # JSON-able
        self._path = path
        self._saving = threading.Lock()  # parts measure on several threads

    def __setitem__(self, name: str, value: object) -> None:
        self.found[name] = value
        self.save()

    def part(self, name: str) -> dict[str, Any]:
        """The dict of that name among the results, made where it is not there; call ``save`` after a change."""
        return self.found.setdefault(name, {})

    def save(self) -> None:
        """Write all; whoever reads meanwhile sees what was there before."""
        with self._saving:
            beside = self._path.with_suffix(".new")
            beside.write_text(json.dumps(self.found), encoding="utf-8")
            beside.replace(self._path)

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """What was written to ``path``; nothing where nothing was."""
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _job_file(folder: Path) -> Path:
    return folder / "job.json"
