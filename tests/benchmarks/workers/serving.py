"""The worker's side of a peer: one JSON line in, one out. Imports nothing of Vitrail, whose packages it has not."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def open_channel() -> Any:
    """Where answers go: the standard output, which whatever else writes there is kept from."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return channel


def serve(channel: Any, call: Callable[[int], object], **facts: Any) -> None:
    """Say that all is ready, then run as many frames as each line asks for, until there are no more lines."""
    channel.write(json.dumps({"ready": True, **facts}) + "\n")
    count = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(json.loads(line)["frames"]):
            started = time.perf_counter()
            call(count)
            seconds.append(time.perf_counter() - started)
            count += 1
        channel.write(json.dumps({"seconds": seconds}) + "\n")
