"""How long PyTorch's threads spin while they wait for each other: briefly.

PyTorch splits each layer between as many threads as there are cores, and whoever is done first waits for the others.
OpenMP has them spin meanwhile, by default for milliseconds. That is of use only while nobody else wants the processor.
Beside another program, the thread that spins uses up the time in which the one that it waits for could have run, and
the picture nearly stands still (``python -m tests.benchmarks.busy``). Some fifty microseconds are long enough for what
lies between two layers, so that nothing is lost without other programs; to sleep at once takes an eighth longer there.
"""

from __future__ import annotations

import os

# Turns of GNU's OpenMP (Linux), and the milliseconds of LLVM's and Intel's (macOS, Windows; not measured there).
BRIEFLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def wait_briefly() -> None:
    """To be called before torch is imported, as OpenMP reads it once; what the user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in BRIEFLY.items():
            os.environ.setdefault(name, value)
