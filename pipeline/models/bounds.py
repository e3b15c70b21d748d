"""Between which values a model's convolutions calculate: a file beside its weights, measured when it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path

# Name of a convolution to the lowest and the highest value that it is given.
Bounds = Mapping[str, tuple[float, float]]

# In a model's folder: the bounds of its parts, ``encoder``, ``decoder`` and ``unet``.
BOUNDS_FILE = "bounds.json"


def read_bounds(folder: Path) -> dict[str, Bounds]:
    """The bounds of a model's parts in its ``folder``; empty where it states none, or any that make no sense."""
    try:
        stored = json.loads((folder / BOUNDS_FILE).read_text(encoding="utf-8"))
        bounds = {
            str(part): {str(name): (float(low), float(high)) for name, (low, high) in ends.items()}
            for part, ends in stored.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    sound = all(-inf < low <= 0 < high < inf for ends in bounds.values() for low, high in ends.values())
    return dict(bounds) if sound else {}
