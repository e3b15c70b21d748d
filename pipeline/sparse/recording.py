"""When a call of the UNet on the whole also records what windows have to know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

# Recording makes a call a third longer. While pictures are wholly changed, tick by tick, it is done at the first tick
# and at each so many after it.
RECORD_EVERY = 32
# What was recorded before a cut does not hold behind it. It is recorded anew once windows would have been faster at so
# many calls in a row, so that it is of use for more than one.
RECORD_AFTER = 2


@dataclass(frozen=True)
class Recording:
    """Whether what was recorded still holds, and what is needed to decide when to record it anew.

    A *cut* is a call with a row of which all has changed.

    Attributes:
        stale: there was a cut since it was recorded.
        cuts: calls with a cut in a row.
        wanted: calls in a row that had to be of the whole only because of ``stale``.
    """

    stale: bool = True
    cuts: int = 0
    wanted: int = 0

    def due(self, cut: bool, wanted: bool) -> bool:
        """Whether the next call on the whole should record.

        Args:
            cut: whether it has a row of which all has changed.
            wanted: whether windows would be faster, if what was recorded still held.
        """
        return (cut and self.cuts % RECORD_EVERY == 0) or (wanted and self.wanted + 1 >= RECORD_AFTER)

    def after_whole(self, cut: bool, wanted: bool, recorded: bool) -> Recording:
        """A call was of the whole; arguments as of ``due``, and whether it did record."""
        return Recording(
            stale=not recorded and (cut or self.stale),
            cuts=self.cuts + 1 if cut else 0,
            wanted=self.wanted + 1 if wanted and not recorded else 0,
        )

    def after_windows(self) -> Recording:
        """A call was of windows."""
        return replace(self, cuts=0)
