"""A list of timesteps in a setting, as StreamDiffusion's users write theirs. Free of torch: settings check it."""

from __future__ import annotations

import re
from itertools import pairwise

MOST_STEPS = 50
# A model of flow matching is told so much where there is no signal; others end one before.
_LARGEST = 1000


def parse_timesteps(text: str) -> tuple[int, ...]:
    """``559, 359, 199, 99`` as numbers, from the first step to the last; empty where the list is.

    Raises:
        ValueError: they are no whole numbers from 0 to 1000, too many, or not in falling order.
    """
    entries = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    wanted = f"they must be whole numbers from 0 to {_LARGEST} with commas between, each less than the one before"
    whole = all(re.fullmatch(r"[0-9]{1,4}", entry) for entry in entries)
    numbers = tuple(int(entry) for entry in entries) if whole else ()
    if not whole or any(after >= before for before, after in pairwise(numbers)) or max(numbers, default=0) > _LARGEST:
        raise ValueError(f"timesteps are {text[:80]!r}; {wanted}")
    if len(numbers) > MOST_STEPS:
        raise ValueError(f"timesteps are {len(numbers)} in number; there can be {MOST_STEPS} at most")
    return numbers
