"""Small helpers for sentences that people read."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, without a full stop at its end; its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
