"""How fast memory grows: a line through what was measured after warm-up, and how sure that is."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import sys
from dataclasses import dataclass

import numpy as np
import psutil

WARM_UP = 0.3  # of the time: the first models, buffers and caches


@dataclass(frozen=True, slots=True)
class Slope:
    """A rate of growth.

    Attributes:
        mb_per_hour: 2**20 bytes in an hour, by least squares.
        error: one standard error of it, as if each sample were off the line by chance alone; memory that swings for
            longer than from one sample to the next makes it several times as much.
    """

    mb_per_hour: float
    error: float

    def __str__(self) -> str:
        return f"{self.mb_per_hour:+.0f} ± {self.error:.0f} MB an hour"


def slope(memory_mb: list[tuple[float, float]], warm_up: float = WARM_UP) -> Slope:
    """The rate of growth of (seconds, megabytes), without the first share ``warm_up`` of the time.

    Raises:
        ValueError: fewer than ten samples are left, of which no line can be drawn.
    """
    end = memory_mb[-1][0] if memory_mb else 0.0
    left = np.array([sample for sample in memory_mb if sample[0] >= warm_up * end])
    if len(left) < 10:
        raise ValueError(f"{len(left)} samples after warm-up are too few for a slope; measure for longer")
    hours, megabytes = left[:, 0] / 3600, left[:, 1]
    hours = hours - hours.mean()
    spread = float(hours @ hours)
    rate = float(hours @ megabytes) / spread
    rest = megabytes - megabytes.mean() - rate * hours
    return Slope(rate, float(np.sqrt(rest @ rest / (len(left) - 2) / spread)))


def memory_mb() -> float:
    """Megabytes that this process holds, after all that can be given back was given back."""
    gc.collect()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)
    return psutil.Process().memory_info().rss / 2**20
