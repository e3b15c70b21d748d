"""StreamDiffusion 0.1.1 beside Vitrail as it is by default, in turns, on the same weights and frames.

Its packages exclude ours, so they are seen by its own processes only.
"""

from __future__ import annotations

import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import load_model
from pipeline.device import number_format
from tests.benchmarks import material
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results
from tests.benchmarks.gpu_parts.speed import STEPS
from tests.benchmarks.measure import in_turns
from tests.benchmarks.peers import STREAMDIFFUSION, Peer


def measure(job: Job, results: Results) -> None:
    """One and four steps."""
    assert job.peers is not None
    packages = unpacked(job.peers, job.folder / "peers")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), os.environ.get("PYTHONPATH", "")])}
    clip_file = job.folder / "frames.npy"
    np.save(clip_file, material.frames(32, job.size()))
    model = load_model(job.model)
    dtype = number_format(model.dtype)

    def started(steps: int) -> Peer:
        arguments = (job.model, clip_file, steps, "none", dtype)
        return Peer(sys.executable, "streamdiffusion_worker.py", *arguments, environment=environment)

    # They start beside each other and beside our own builds, and sleep until it is their turn.
    with ThreadPoolExecutor() as pool:
        starting = {steps: pool.submit(started, steps) for steps in STEPS}
        for steps, peer in starting.items():
            backend, player = live.built(
                model, job.acceleration or "auto", live.config_of(steps), live.clip_of(job.size())
            )
            with closing(backend), closing(peer.result()) as other:
                for each in starting.values():  # whoever still starts would disturb the turns
                    each.result()
                results["versions"] = other.facts["versions"]
                results[f"T{steps}"] = {**_compared(job, other, player), "acceleration": backend.name, "dtype": dtype}


def _compared(job: Job, other: Peer, player: live.Player) -> dict[str, Any]:
    """Milliseconds a frame, and how many times as long theirs takes.

    Theirs waits for each picture. Ours does as well for ``ratio``, and for ``ratio_pipelined`` as the application does.
    """
    contestants = {"peer": other, "waiting": player.waiting, "pipelined": player.pipelined}
    seconds = in_turns(contestants, job.count(5), job.count(12), warm_up=job.count(8))
    ms = {name: live.median_ms(times) for name, times in seconds.items()}
    return {
        STREAMDIFFUSION: ms["peer"],
        "waiting_ms": ms["waiting"],
        "pipelined_ms": ms["pipelined"],
        "ratio": round(ms["peer"] / ms["waiting"], 2),
        "ratio_pipelined": round(ms["peer"] / ms["pipelined"], 2),
    }


def unpacked(packages: Path, into: Path) -> Path:
    """The folder to import from: ``packages``, or where it holds wheels, ``into``, with what is in them."""
    wheels = sorted(packages.glob("*.whl"))
    if not wheels:
        return packages.resolve()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
    return into.resolve()
