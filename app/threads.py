"""How PyTorch's threads wait for each other: asleep.

Its pool splits each layer between as many threads as there are cores, and whoever is done first waits for the others.
OpenMP has them spin meanwhile. That saves microseconds while nobody else wants the processor. Beside any other program,
the thread that spins uses up the time in which the thread that it waits for could have run, and the picture nearly
stands still (``python -m tests.benchmarks.busy``).
"""

from __future__ import annotations

import os

# By the standard's own name, which GNU's OpenMP (Linux), LLVM's (macOS) and Intel's (Windows) all know.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def wait_asleep() -> None:
    """To be called before torch is imported, as OpenMP reads it once; what the user has set stays."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
