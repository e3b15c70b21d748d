"""Listings: whoever asks is never held up by a look that takes its time."""

from __future__ import annotations

import threading

from app.listing import Listing


def test_a_listing_is_asked_without_waiting():
    now, looks = [0.0], []
    go_on = threading.Event()

    def look() -> int:
        looks.append(now[0])
        assert go_on.wait(30)
        return len(looks)

    listing = Listing(look, seconds=2, clock=lambda: now[0])
    assert listing.seen is None  # the look hangs, the answer does not
    assert listing.seen is None
    go_on.set()
    assert listing.wait(30) == 1
    now[0] = 1.9
    assert listing.wait(30) == 1
    now[0] = 2.0
    listing.seen  # noqa: B018 - begins a look
    assert listing.wait(30) == 2
    assert looks == [0.0, 2.0]
