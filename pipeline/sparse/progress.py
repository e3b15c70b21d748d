"""Which parts of which slots have to be computed at which tick: a state without tensors, and what happens to it.

At tick n, slot k of the stream batch holds frame n - k, and what a network kept of slot k is of frame n - k - 1, at the
very same step and noise. The two differ where frame n - k differed from the frame before it when it came in. So each
frame's change enters a FIFO beside the slots with it, and moves on with it. A frame of which all has changed (a
*keyframe*) makes slot k dense at tick n + k: one slot a tick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from pipeline.sparse.rectangles import Change, FrameChanges, Rectangle

# While frame after frame is wholly changed, sparse inference saves nothing, and comparing frames and keeping outputs is
# all that it costs. So after a run of so many wholly changed frames the next ones are taken to be so without a look,
# except for one in so many.
WHOLE_RUN, LOOK_EVERY = 4, 8
# A frame in so many is taken as wholly changed, whatever is in it: this washes out all that has drifted.
KEYFRAME_EVERY = 90


class Phase(Enum):
    """Where the stream is between two ticks."""

    FIRST_FRAMES = auto()  # begun with frames that are still to be admitted
    BETWEEN_TICKS = auto()  # a call of the UNet fills the slots, and is of no tick
    IN_TICK = auto()  # the next call of the UNet is that of the tick


@dataclass(frozen=True)
class Progress:
    """What is known of the frames in flight. Each event is a method that gives the state after it.

    What is to be done next follows from the state alone, by its properties.

    Attributes:
        slots: for each of the T slots, slot 0 first, the changes of the F frames in it.
        frames: F; 0 until the first frames have been seen.
        phase: where the stream is between two ticks.
        arriving: the changes of the frames that enter slot 0 at the next tick; None where no frames have been compared.
        decoded: the changes of the frames whose pictures were decoded at the last tick; None before the first tick.
        settling: ticks, the next one included, until what a call of the UNet on the whole wrote outside of all changes
            has left the last slot.
        since_keyframe: frames since the last one that was wholly changed.
        whole_run: wholly changed frames in a row.
        source_told: whether the source said where the frames admitted last had changed.
        frames_missed: whether frames went by that were not admitted.
        restyled: whether the settings have changed since the last tick: everything is another picture now.
        keeps_nothing: whether nothing that is computed at this tick is going to be used at the next.
    """

    slots: tuple[FrameChanges, ...] = ((),)
    frames: int = 0
    phase: Phase = Phase.BETWEEN_TICKS
    arriving: FrameChanges | None = None
    decoded: FrameChanges | None = None
    settling: int = 0
    since_keyframe: int = 0
    whole_run: int = 0
    source_told: bool = False
    frames_missed: bool = False
    restyled: bool = False
    keeps_nothing: bool = False

    # -- events -------------------------------------------------------------------------------------------------------

    def begun(self, frames: int, steps: int) -> Progress:
        """The first F = ``frames`` frames of their kind are here, and fill all T = ``steps`` slots at once.

        They are encoded and denoised as a whole before the first tick: nothing in the slots is out of date then.
        """
        return Progress(slots=(_each((), frames),) * steps, frames=frames, phase=Phase.FIRST_FRAMES)

    def first_admitted(self) -> Progress:
        """The frames that the stream begins with are about to be encoded."""
        return replace(self, phase=Phase.BETWEEN_TICKS)

    def restarted(self, frames: int) -> Progress:
        """The first frames since sparse inference was switched on are here: nothing is known of those in flight."""
        return Progress(frames=frames).settings_changed(self.steps)

    def admitted(self, changes: FrameChanges, source_told: bool = False) -> Progress:
        """The next frames were compared with those before, if ``looks`` said so, and enter at the next tick.

        Args:
            changes: of each frame; of frames that are not looked at, None.
            source_told: whether the source said where one of them had changed.
        """
        cut = all(change is None for change in changes)
        return replace(
            self,
            arriving=changes,
            since_keyframe=0 if cut else self.since_keyframe + 1,
            whole_run=self.whole_run + 1 if cut else 0,
            source_told=source_told,
            frames_missed=False,
        )

    def missed(self) -> Progress:
        """Frames went by that were not admitted: what the source says of the next ones leaves their changes out."""
        return replace(self, frames_missed=True)

    def settings_changed(self, steps: int) -> Progress:
        """All frames in flight, and all from now on, become other pictures than before; there are T = ``steps``."""
        return replace(self, slots=(_each(None, self.frames),) * steps, restyled=True)

    def ticked(self) -> Progress:
        """All frames in flight are about to take a step, and the last of them to be decoded."""
        arriving = _each((), self.frames) if self.arriving is None else self.arriving
        if self.restyled or self.keeps_nothing:  # the slots' outputs at the tick before are of no use
            arriving = _each(None, self.frames)
        slots = (arriving, *self.slots[:-1])
        settling = max(0, self.settling - 1)
        if not self.frames:  # switched on while frames are in flight, and none has come in since
            return replace(self, slots=slots, settling=settling, arriving=None, restyled=False)
        return replace(
            self,
            slots=slots,
            phase=Phase.IN_TICK,
            arriving=None,
            decoded=slots[-1],
            settling=settling,
            restyled=False,
            keeps_nothing=not self.looks and all(change is None for frames in slots for change in frames),
        )

    def denoised(self, whole: bool) -> Progress:
        """The UNet has been called for this tick. ``whole``: it wrote everywhere, and not just around changes."""
        return replace(self, phase=Phase.BETWEEN_TICKS, settling=self.steps if whole else self.settling)

    # -- what follows -------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """T, the number of slots."""
        return len(self.slots)

    @property
    def looks(self) -> bool:
        """Whether the next frames are compared with those before, instead of being taken as wholly changed."""
        return self.source_told or self.whole_run < WHOLE_RUN or self.whole_run % LOOK_EVERY == 0

    @property
    def keyframe_due(self) -> bool:
        """Whether the next frames are taken as wholly changed to wash out what has drifted."""
        return self.since_keyframe + 1 >= KEYFRAME_EVERY

    @property
    def encoded(self) -> FrameChanges:
        """Where the frames that are encoded before the next tick differ from those encoded last."""
        return _each(None, self.frames) if self.arriving is None else self.arriving

    @property
    def keeps_latents(self) -> bool:
        """Whether the latents that are encoded now may be used for the next frames."""
        return self.looks

    @property
    def leaving(self) -> FrameChanges:
        """Where the frames in the last slot, which are decoded at this tick, differ from those decoded before."""
        return self.slots[-1]

    @property
    def still(self) -> bool:
        """Whether the pictures that are decoded at this tick are those of the tick before."""
        return self.frames > 0 and all(change == () for change in self.leaving)

    @property
    def reuses(self) -> bool:
        """Whether the next call of the UNet may use what it gave for the same slots at the tick before."""
        return self.phase is Phase.IN_TICK and not self.keeps_nothing

    @property
    def box(self) -> Rectangle | None:
        """The bounding box of the changes in all slots, in pixels of the picture; None for everywhere.

        ``(0, 0, 0, 0)`` where no frame in flight changed.
        """
        if self.settling or not self.frames:
            return None
        changes = [change for frames in self.slots for change in frames]
        if None in changes:
            return None
        rectangles = [rectangle for change in changes if change for rectangle in change]
        if not rectangles:
            return 0, 0, 0, 0
        left, top, right, bottom = zip(*rectangles, strict=True)
        return min(left), min(top), max(right), max(bottom)

    def row_changes(self, rows: int) -> tuple[Change, ...]:
        """The change of each of the UNet's rows.

        Rows under a negative prompt, and those without the input, are of the same slots in the same order once more.
        """
        changes = [change for frames in self.slots for change in frames]
        return tuple(changes[row % len(changes)] for row in range(rows))


def _each(change: Change, frames: int) -> FrameChanges:
    return (change,) * frames
