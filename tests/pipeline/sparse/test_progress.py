"""What has to be computed at which tick: by tables, and against a model of a stream that knows what is true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sparse import progress as progress_module
from pipeline.sparse.progress import KEYFRAME_EVERY, LOOK_EVERY, WHOLE_RUN, Phase, Progress
from pipeline.sparse.rectangles import Change, FrameChanges, Rectangle

LEFT: Change = ((0, 0, 8, 8),)
RIGHT: Change = ((24, 16, 40, 32),)
STEPS = 3


def begun(frames: int = 1, steps: int = STEPS) -> Progress:
    return Progress().settings_changed(steps).begun(frames, steps).first_admitted()


def ticked(progress: Progress, *arriving: Change) -> Progress:
    """A frame comes in, and all slots are computed."""
    return progress.admitted(arriving).ticked().denoised(whole=False)


def after_cuts(count: int, progress: Progress | None = None) -> Progress:
    progress = begun() if progress is None else progress
    for _ in range(count):
        progress = ticked(progress, None)
    return progress


def of_one_frame(progress: Progress) -> list[Change]:
    return [changes[0] for changes in progress.slots]


def test_first_frames_are_encoded_and_denoised_as_a_whole() -> None:
    progress = Progress().begun(2, STEPS)
    assert progress.phase is Phase.FIRST_FRAMES
    assert progress.encoded == (None, None)
    progress = progress.first_admitted()
    assert not progress.reuses, "what fills the slots is of no tick"
    assert progress.slots == (((), ()),) * STEPS, "after that nothing is out of date"
    assert progress.still
    assert progress.box == (0, 0, 0, 0)


def test_a_change_moves_on_with_its_frame_and_is_decoded_when_that_leaves() -> None:
    progress = ticked(begun(), LEFT)
    expected: list[list[Change]] = [[LEFT, (), ()], [(), LEFT, ()], [(), (), LEFT], [(), (), ()]]
    for slots in expected:
        assert of_one_frame(progress) == slots
        assert progress.leaving == (slots[-1],) == progress.decoded
        assert progress.still == (slots[-1] == ())
        progress = ticked(progress, ())


def test_a_wholly_changed_frame_makes_one_slot_dense_at_each_tick() -> None:
    progress = ticked(begun(), None)
    for number in range(STEPS):
        assert [change is None for change in of_one_frame(progress)] == [slot == number for slot in range(STEPS)]
        assert progress.box is None
        progress = ticked(progress, ())
    assert progress.box == (0, 0, 0, 0)


def test_after_settings_changed_all_slots_are_dense_and_slot_k_until_a_frame_of_the_new_ones_is_there() -> None:
    progress = ticked(begun(), ()).settings_changed(STEPS)
    for number in range(STEPS + 1):
        progress = ticked(progress, ())
        assert [change is None for change in of_one_frame(progress)] == [slot >= number for slot in range(STEPS)]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_another_number_of_steps_is_another_number_of_slots(steps: int) -> None:
    progress = ticked(begun(frames=2), LEFT, ()).settings_changed(steps)
    assert progress.steps == steps
    assert ticked(progress, LEFT, RIGHT).slots == ((None, None),) * steps


@pytest.mark.parametrize(
    ("cuts", "told", "looks"),
    [
        (0, False, True),
        (WHOLE_RUN - 1, False, True),
        (WHOLE_RUN, False, False),
        (LOOK_EVERY - 1, False, False),
        (LOOK_EVERY, False, True),
        (LOOK_EVERY + 1, False, False),
        (WHOLE_RUN, True, True),
    ],
)
def test_frames_after_a_run_of_wholly_changed_ones_are_mostly_not_looked_at(cuts: int, told: bool, looks: bool) -> None:
    progress = after_cuts(max(0, cuts - 1))
    progress = progress.admitted((None,), told) if cuts else progress
    assert progress.looks == progress.keeps_latents == looks
    assert progress.admitted(((),)).looks, "one that is not wholly changed ends the run"


def test_nothing_is_used_of_a_tick_that_kept_nothing() -> None:
    progress = after_cuts(WHOLE_RUN).ticked()
    assert progress.keeps_nothing
    assert not progress.reuses
    # The next frame, although it is still, and even where none comes in:
    for following in (progress.denoised(whole=True).admitted(((),)), progress.denoised(whole=True)):
        assert of_one_frame(following.ticked()) == [None] * STEPS


def test_a_tick_keeps_what_a_slot_that_is_not_wholly_changed_will_need() -> None:
    progress = after_cuts(WHOLE_RUN - 1, ticked(begun(steps=WHOLE_RUN + 1), LEFT)).admitted((None,)).ticked()
    assert not progress.looks
    assert progress.leaving == (LEFT,)
    assert not progress.keeps_nothing


def test_a_keyframe_is_due_after_so_many_frames_that_were_not_wholly_changed() -> None:
    progress = begun()
    for _ in range(KEYFRAME_EVERY - 1):
        assert not progress.keyframe_due
        progress = ticked(progress, LEFT)
    assert progress.keyframe_due
    assert not ticked(progress, None).keyframe_due


def test_after_frames_that_were_missed_the_source_is_not_trusted_once() -> None:
    progress = begun().missed()
    assert progress.frames_missed
    assert not progress.admitted((LEFT,)).frames_missed


def test_switched_on_while_frames_are_in_flight() -> None:
    progress = Progress().settings_changed(STEPS)
    for _ in range(2):  # they go on, and no new one comes in
        progress = progress.ticked()
        assert not progress.reuses
        assert not progress.still
        assert progress.box is None
        assert progress.decoded is None
    progress = progress.restarted(1)
    assert progress.encoded == (None,)
    progress = progress.ticked()
    assert progress.reuses
    assert of_one_frame(progress) == [None] * STEPS


def test_what_a_whole_call_wrote_beside_the_changes_moves_through_all_slots() -> None:
    progress = begun().admitted((LEFT,)).ticked()
    assert progress.box == (0, 0, 8, 8)
    progress = progress.denoised(whole=True)
    for _ in range(STEPS):
        assert progress.box is None
        progress = ticked(progress, ())
    assert progress.box == (0, 0, 0, 0)


def test_a_box_holds_the_changes_of_all_slots_and_frames() -> None:
    progress = ticked(ticked(begun(frames=2), LEFT, ()), (), RIGHT)
    assert progress.box == (0, 0, 40, 32)
    assert ticked(ticked(progress, (), ()), (), ()).box == (24, 16, 40, 32)


def test_rows_beyond_the_slots_are_of_the_same_slots_again() -> None:
    progress = ticked(ticked(begun(frames=2, steps=2), LEFT, ()), (), None)
    slots: FrameChanges = ((), None, LEFT, ())
    assert progress.row_changes(4) == slots
    assert progress.row_changes(10) == (*slots, *slots, *slots[:2])


def test_only_the_first_call_of_the_unet_after_a_tick_is_of_that_tick() -> None:
    progress = begun().ticked()
    assert progress.reuses
    assert not progress.denoised(whole=False).reuses


# -- against a model --------------------------------------------------------------------------------------------------

REGIONS: tuple[Rectangle, ...] = ((0, 0, 8, 8), (8, 0, 16, 8), (16, 0, 24, 8))
Merged = TypeVar("Merged", list[Any], tuple[int, ...])
Values = list[tuple[int, tuple[int, ...]]]  # by region: what the frame shows there, and the settings of each step


@dataclass
class TrueStream:
    """A stream of pictures of three regions, in which what a network gives is what it is given and the settings.

    A network computes just the regions that changed by ``Progress``, and takes the others from its own last output; at
    each tick all of it must be right.
    """

    progress: Progress
    scene: tuple[int, ...] = (0, 0, 0)
    style: int = 0
    reference: tuple[int, ...] = (0, 0, 0)
    arrived: tuple[int, ...] = (0, 0, 0)
    latent: tuple[int, ...] = (0, 0, 0)
    encoded: tuple[int, ...] | None = None  # kept by the encoder, as ``denoised`` by the UNet; None after ``forget``
    denoised: list[Values] | None = None
    slots: list[Values] = field(default_factory=list)
    decoded: Values | None = None
    picture: Values = field(default_factory=list)

    def begin(self) -> None:
        steps = self.progress.steps
        self.progress = self.progress.begun(1, steps)
        assert self.progress.encoded == (None,)
        self.progress = self.progress.first_admitted()
        self.reference = self.latent = self.encoded = self.arrived = self.scene
        self.slots = [[(shown, (self.style,) * (slot + 1)) for shown in self.scene] for slot in range(steps)]
        self.denoised, self.picture = None, self.slots[-1]
        self.decoded = self.picture

    def frame(self, moved: frozenset[int], told: bool, skipped: bool) -> None:
        self.scene = tuple(shown + (region in moved) for region, shown in enumerate(self.scene))
        if skipped:
            self.progress = self.progress.missed()
        else:
            self._admit(told and not self.progress.frames_missed)
        self.arrived = self.scene

    def _admit(self, told: bool) -> None:
        looked, change = self.progress.looks, None
        if looked:
            before = self.arrived if told else self.reference
            regions = [one for one, a, b in zip(REGIONS, before, self.scene, strict=True) if a != b]
            change = None if self.progress.keyframe_due or len(regions) == len(REGIONS) else tuple(regions)
        self.progress = self.progress.admitted((change,), told)
        if looked or self.progress.looks:
            self.reference = self.scene
        if change == ():
            assert self.latent == self.scene
        elif self.progress.keeps_latents:
            self.encoded = self.latent = merged(self.encoded, self.scene, self.progress.encoded[0])
        else:
            self.latent = self.scene
        assert self.latent == self.scene

    def tick(self) -> None:
        self.progress = self.progress.ticked()
        inputs = [[(shown, ()) for shown in self.latent], *self.slots[:-1]]
        expected: list[Values] = [[(shown, (*steps, self.style)) for shown, steps in values] for values in inputs]
        box = self.progress.box
        for before, now in zip(self.slots, expected, strict=True):
            for region, a, b in zip(REGIONS, before, now, strict=True):
                assert a == b or box is None or (box[0] <= region[0] and region[2] <= box[2])
        if box != (0, 0, 0, 0):
            self._denoise(expected)
        self.slots = expected
        if self.progress.still:
            assert self.picture == expected[-1]
        elif self.progress.keeps_nothing:
            self.picture = expected[-1]
        else:
            self.decoded = self.picture = merged(self.decoded, expected[-1], self.progress.leaving[0])
        assert self.picture == expected[-1]

    def _denoise(self, expected: list[Values]) -> None:
        if self.progress.reuses:
            changes = self.progress.row_changes(len(expected))
            kept = self.denoised or [None] * len(expected)
            self.denoised = [merged(*one) for one in zip(kept, expected, changes, strict=True)]
            assert self.denoised == expected
            self.progress = self.progress.denoised(whole=all(change is None for change in changes))
        else:  # what the UNet kept is out of date from now on
            self.progress = self.progress.denoised(whole=True)

    def restyle(self, steps: int) -> None:
        self.style += 1
        if steps != self.progress.steps:
            self.denoised = None  # it is of another number of rows
        self.slots = (self.slots + [self.slots[-1]] * steps)[:steps]
        self.progress = self.progress.settings_changed(steps)

    def switch_on_anew(self) -> None:
        self.progress = Progress().settings_changed(self.progress.steps)
        self.tick_unknown()
        self.progress = self.progress.restarted(1)
        self.reference = self.latent = self.encoded = self.arrived = self.scene
        self.denoised = self.decoded = None

    def tick_unknown(self) -> None:
        """A tick before the first frame is known."""
        self.progress = self.progress.ticked()
        assert not self.progress.reuses
        assert not self.progress.still
        inputs = [[(shown, ()) for shown in self.latent], *self.slots[:-1]]
        self.slots = [[(shown, (*steps, self.style)) for shown, steps in values] for values in inputs]
        self.picture = self.slots[-1]


def merged(kept: Merged | None, new: Merged, change: Change) -> Merged:
    """``new`` where it changed, and what was kept elsewhere."""
    if kept is None or change is None:
        return new
    return type(new)(b if region in change else a for region, a, b in zip(REGIONS, kept, new, strict=True))


Happening = tuple[str, frozenset[int], bool, int]

# What comes next, which regions of the scene have moved, whether the source says so, and a number of steps.
happenings = st.tuples(
    st.sampled_from([*["frame"] * 10, *["skipped"] * 3, "restyle", "begin", "switch on anew"]),
    st.sampled_from([frozenset(), frozenset({0}), frozenset({1, 2}), *[frozenset({0, 1, 2})] * 4]),
    st.sampled_from([False, False, False, True]),
    st.integers(1, 4),
)


def happen(stream: TrueStream, what: str, moved: frozenset[int], told: bool, steps: int) -> None:
    if what == "begin":
        stream.begin()
        return
    if what == "restyle":
        stream.restyle(steps)
    elif what == "switch on anew":
        stream.switch_on_anew()
    else:
        stream.frame(moved, told, what == "skipped")
    stream.tick()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.lists(happenings, min_size=20, max_size=40))
def test_all_that_is_not_computed_is_what_it_was(steps: int, script: list[Happening]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("KEYFRAME_EVERY", 9), ("WHOLE_RUN", 2), ("LOOK_EVERY", 4)):
            patch.setattr(progress_module, name, value)
        stream = TrueStream(Progress().settings_changed(steps))
        stream.begin()
        for happening in script:
            happen(stream, *happening)
