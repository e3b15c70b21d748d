"""Where memory is short: how that is told, and what is given up for it, in which order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from app.frame import Frame
from app.messages import Captured, EndOfSource
from app.settings import Settings, within_pixels
from app.settings_owner import SettingsOwner
from app.standing import NO_LIMITS, Limits, model_of
from app.status import StatusBoard
from app.tensors import give_memory_back
from pipeline.config import MEMORY_MODES

# The share of its sides that a picture goes down to, and the least that its shorter side goes to, in pixels.
SMALLER = 0.75
SMALLEST_SHORT_SIDE = 192
# How long a live session waits where nothing is left to give up.
WAIT_SECONDS = 2.0

_WORDS = {
    "sliced": "the model takes its work in slices, which is slower",
    "offload": "the model's weights stay in main memory until they are used, which is much slower",
}


class MemoryShort(Exception):
    """Memory does not suffice, whatever is given up. The message is one sentence for the user."""


def stepped_down(
    settings: Settings, size: tuple[int, int] | None, limits: Limits = NO_LIMITS, *, live: bool
) -> tuple[Limits, str] | None:
    """The next step down from ``settings``, which ran out of memory, and what it costs, in words.

    First frames go through the model one at a time, then in slices, then its weights move to main memory, where the
    device has a memory of its own; all that leaves the pictures as they are. Only then, and only where frames are live,
    pictures get smaller: a file's are to be of one size.

    Args:
        size: (width, height) of the pictures; None where memory ran out while the model was loaded, for which only
            keeping its weights apart is any help.
        limits: that hold already, which the next step adds to where they were found for the same model.

    Returns:
        The limits from now on; None where there is nothing left to give up.
    """
    model = model_of(settings)
    present = limits if limits.model == model else Limits(model=model)
    if size is not None and settings.frame_buffer > 1:
        return replace(present, frame_buffer=1), "frames go through the model one at a time"
    following = MEMORY_MODES[MEMORY_MODES.index(settings.memory) + 1 :]
    for mode in following[-1:] if size is None else following:
        if mode != "offload" or has_own_memory(settings):
            return replace(present, memory=mode), _WORDS[mode]
    if size is None or not live or min(size) * SMALLER < SMALLEST_SHORT_SIDE:
        return None
    pixels = int(size[0] * size[1] * SMALLER**2)
    width, height = within_pixels(*size, pixels)
    words = f"the picture is made {width}x{height} instead of {size[0]}x{size[1]}"
    return replace(present, pixels=pixels), words


def too_little(settings: Settings, size: tuple[int, int] | None) -> MemoryShort:
    """What to say where nothing is left to give up."""
    if size is None:
        return MemoryShort(
            f"There is too little memory for {settings.model}; take another model, or end other programs."
        )
    pictures = f"pictures of {size[0]}x{size[1]} with {settings.model}"
    return MemoryShort(f"There is too little memory for {pictures}; take a smaller size, or end other programs.")


def has_own_memory(settings: Settings) -> bool:
    """Whether the device of these settings has a memory apart from the main one."""
    from pipeline.device import choose_device

    try:
        return choose_device(settings.device).type in ("cuda", "xpu")
    except ValueError:
        return False


class Ladder:
    """Goes down step by step where memory is short. Used by the worker's thread alone.

    Args:
        owner: of the settings, which coming frames follow.
        board: where to say what is given up, and that nothing is left.
    """

    def __init__(self, owner: SettingsOwner, board: StatusBoard) -> None:
        self._owner = owner
        self._board = board
        self._last: tuple[Limits, float] | None = None  # the last step, and when it was taken
        self._told = False

    def within(self, item: Captured) -> Settings:
        """The settings of ``item``, less what they ask of memory where it was captured before the last step.

        Its picture has its size already, so the size stays.
        """
        if self._last is None or item.frame.captured_at > self._last[1]:
            return item.settings
        return replace(self._last[0], pixels=None).applied_to(item.settings)

    def fits(self) -> None:
        """A call has had memory enough."""
        self._told = False

    def step_after(
        self, error: Exception, present: Settings, size: tuple[int, int] | None, *, live: bool
    ) -> Exception | None:
        """Take a step after ``error`` under the settings ``present``; what a file's session fails with at the end.

        A live session waits there, and is to try again: another program may have ended.
        """
        give_memory_back(error)
        if self._step(present, size, live=live) is not None:
            return None
        if not live:
            return too_little(present, size)
        if not self._told:
            self._board.notice(f"{too_little(present, size)} It is tried again every few seconds.", error)
        self._told = True
        self._board.wait(lambda status: status.state.final, WAIT_SECONDS)
        return None

    def step_before_loading(self, error: Exception | None, present: Settings) -> Settings:
        """Settings with which a model may be loaded that did not fit. Raises ``MemoryShort`` where there are none."""
        give_memory_back(error)
        limits = self._step(present, None, live=False)
        if limits is None:
            raise too_little(present, None) from error
        return limits.applied_to(present)

    def _step(self, present: Settings, size: tuple[int, int] | None, *, live: bool) -> Limits | None:
        before = self._owner.standing
        step = stepped_down(present, size, before.limits, live=live)
        if step is None:
            return None
        limits, words = step
        self._owner.limit(limits)
        after = self._owner.standing
        if (after.in_force, after.limits.pixels) != (before.in_force, before.limits.pixels):
            self._board.notice(f"Memory is short: {words}.")
        self._last = limits, time.monotonic()
        return limits


class Retake:
    """The frames of a file that are not out yet, in order: after the engine has lost them, they are run once more."""

    def __init__(self) -> None:
        self._on_their_way: deque[Captured] = deque()
        self._again: deque[Captured | EndOfSource] = deque()

    def forget(self) -> None:
        """Another source."""
        self._on_their_way.clear()
        self._again.clear()

    def entered(self, item: Captured) -> None:
        """``item`` is about to go through the engine; a live one is not kept."""
        if not item.live:
            self._on_their_way.append(item)

    def left(self, frames: Iterable[Frame]) -> None:
        """The pictures of these frames are out."""
        for frame in frames:
            while self._on_their_way and self._on_their_way.popleft().frame is not frame:
                pass

    def start_over(self, end: EndOfSource | None) -> None:
        """The engine has lost what is on its way; ``end`` is what followed it, if its end is what was being run."""
        self._again.extendleft(reversed(self._on_their_way))
        self._on_their_way.clear()
        if end is not None:
            self._again.append(end)

    def next(self) -> Captured | EndOfSource | None:
        """What is to be run once more before anything new; None where nothing is left of it."""
        return self._again.popleft() if self._again else None
