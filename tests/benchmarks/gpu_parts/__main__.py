"""One part, by name: ``python -m tests.benchmarks.gpu_parts speed FOLDER SECONDS``; see ``tests.benchmarks.gpu``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from tests.benchmarks.gpu_parts.job import Job, Results

if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    job = Job.read(folder, float(sys.argv[3]))
    import_module(f"tests.benchmarks.gpu_parts.{name}").measure(job, Results(folder / f"{name}.json"))
