"""How a process is started that works beside the picture, which comes first."""

from __future__ import annotations

import subprocess


def creation_flags(*, idle: bool = False) -> int:
    """For ``subprocess`` on Windows: no window, and a low priority. Elsewhere 0: there the process itself steps back.

    Args:
        idle: it gets the processor only while nobody else wants it.
    """
    priority = "IDLE_PRIORITY_CLASS" if idle else "BELOW_NORMAL_PRIORITY_CLASS"
    return getattr(subprocess, "CREATE_NO_WINDOW", 0) | getattr(subprocess, priority, 0)
