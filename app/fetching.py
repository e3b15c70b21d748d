"""A download of a model that is under way: how far it is, and how it is given up. Free of torch and of the hub."""

from __future__ import annotations

from collections.abc import Callable

# Told of a download: bytes so far, and bytes in all (0 where that is not known). What it raises cancels the download.
Progress = Callable[[int, int], None]

_MEGA = 1_000_000


class FetchCancelled(Exception):
    """The download was given up, as asked. The message is one sentence for the user."""


def fetched_words(model: str, fetched: tuple[int, int] | None) -> str:
    """``Fetching owner/name: 340 of 1,700 MB (20 %)``; empty where nothing is on its way, or all has arrived."""
    if fetched is None:
        return ""
    done, total = fetched
    if not total:
        return f"Fetching {model}: {done // _MEGA:,} MB"
    if done >= total:
        return ""
    return f"Fetching {model}: {done // _MEGA:,} of {total // _MEGA:,} MB ({100 * done // total} %)"
