"""The one owner of the settings: whoever changes them, in whatever order, what is chosen stays chosen."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.catalogue import catalogue, value_of, with_values
from app.presets import Preset, from_text, to_text
from app.settings import Settings, picture_size
from app.settings_file import load, save
from app.settings_owner import Origin, SettingsChanged, SettingsOwner
from app.standing import Limits, Refused, Standing, model_of
from app.undo import UndoHistory
from pipeline.config import MEMORY_MODES, StreamConfig
from pipeline.setting import Value

TEN_STEPS = {"steps": 10, "solver": "dpmpp-2m", "guidance": "full", "guidance_scale": 5.0}
EMBEDDED = Settings()


def events_of(owner: SettingsOwner) -> list[SettingsChanged]:
    events: list[SettingsChanged] = []
    owner.listen(events.append)
    return events


def test_a_choice_that_equals_the_default_is_a_choice() -> None:
    owner = SettingsOwner({"steps": 1})
    owner.recommend("slow", TEN_STEPS, EMBEDDED)
    assert owner.in_force.stream.steps == 1
    assert owner.in_force.stream.solver == "dpmpp-2m"
    owner.unchoose("steps")
    assert owner.in_force.stream.steps == 10


def test_everybody_is_told_of_every_change_and_who_made_it() -> None:
    owner = SettingsOwner()
    events = events_of(owner)
    owner.choose({"strength": 0.4})
    owner.choose({"strength": 0.4})  # changes nothing
    owner.recommend("slow", TEN_STEPS, EMBEDDED)
    owner.limit(Limits(memory="sliced", model=model_of(EMBEDDED)))
    owner.undo()
    assert [event.origin for event in events] == [Origin.USER, Origin.MODEL, Origin.MEMORY, Origin.UNDO]
    assert [event.after.in_force.stream.steps for event in events] == [1, 10, 10, 10]
    assert events[-1].after == owner.standing


def test_a_listener_that_has_gone_is_told_nothing() -> None:
    owner = SettingsOwner()
    events: list[SettingsChanged] = []
    end = owner.listen(events.append)
    end()
    owner.choose({"mirror": True})
    assert events == []


def test_a_lora_of_the_last_time_does_not_make_the_window_wait_for_torch() -> None:
    script = (
        "import sys; from app.settings_owner import SettingsOwner;"
        "owner = SettingsOwner({'loras': 'tcd-sd15-lora.safetensors'}); owner.choose({'strength': 0.5});"
        "print('torch' in sys.modules);"
        "owner.recommend('a model', {}, owner.in_force); print(owner.in_force.stream.solver)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "tcd"]


def test_undo_takes_back_what_the_user_did_and_nothing_else() -> None:
    owner = SettingsOwner(history=UndoHistory(iter(range(0, 1000, 10)).__next__))
    owner.choose({"strength": 0.4})
    owner.recommend("slow", TEN_STEPS, EMBEDDED)
    owner.limit(Limits(memory="sliced", model=model_of(EMBEDDED)))
    owner.choose({"mirror": True}, Origin.PROGRAM)
    owner.undo()
    assert (owner.in_force.stream.strength, owner.in_force.stream.steps) == (0.8, 10)
    assert owner.in_force.mirror
    assert owner.in_force.memory == "sliced"
    owner.redo()
    assert (owner.in_force.stream.strength, owner.in_force.stream.steps) == (0.4, 10)


def test_what_memory_forces_is_beside_the_choices_and_ends_with_the_model() -> None:
    owner = SettingsOwner({"width": 512, "height": 512})
    owner.limit(Limits("sliced", 1, 384 * 384, model_of(EMBEDDED)))
    assert (owner.in_force.width, owner.in_force.height, owner.in_force.memory) == (384, 384, "sliced")
    assert (owner.standing.wanted.width, owner.standing.wanted.memory) == (512, "full")
    assert owner.standing.notes() == {
        "memory": "sliced while memory is short.",
        "width": "384 while memory is short.",
        "height": "384 while memory is short.",
    }
    owner.recommend("same", {}, EMBEDDED)
    assert owner.in_force.memory == "sliced"
    owner.recommend("other", {}, Settings(model="other"))
    assert owner.in_force == owner.standing.wanted
    assert owner.standing.notes() == {}


def test_a_person_who_asks_for_more_memory_is_given_it() -> None:
    owner = SettingsOwner({"width": 512, "height": 512, "memory": "full"})
    owner.limit(Limits("sliced", None, 384 * 384, model_of(EMBEDDED)))
    owner.choose({"strength": 0.5})
    assert owner.in_force.memory == "sliced"  # that was about something else
    owner.choose({"memory": "full"})  # as it was chosen already
    assert (owner.in_force.memory, owner.in_force.width) == ("full", 384)
    owner.lift_limits()
    assert owner.in_force.width == 512


def test_a_size_that_is_left_open_is_limited_by_its_pixels() -> None:
    owner = SettingsOwner()
    owner.limit(Limits(pixels=384 * 384))
    standing = owner.standing
    for source in ((640, 480), (480, 640), (100, 100), (4000, 400)):
        width, height = picture_size(standing.in_force, *source, 512, standing.limits.pixels)
        assert width * height <= 384 * 384
        assert width * height > 0.8 * 384 * 384
        assert abs(width / height - source[0] / source[1]) < 0.1 * source[0] / source[1]
    assert "at most 147,456 pixels" in standing.notes()["width"]


def test_two_changes_at_the_same_time_lose_nothing_of_each_other() -> None:
    owner = SettingsOwner()
    done = threading.Event()

    def beside() -> None:
        owner.choose({"mirror": True})
        done.set()

    other = threading.Thread(target=beside)

    def edit(now: Standing) -> dict[str, Value | None]:
        other.start()
        done.wait(0.2)  # it has to wait for this change, which is made from how the settings stood before
        return {"seed": 5, **now.chosen}

    owner.change(edit)
    other.join()
    assert owner.standing.chosen == {"seed": 5, "mirror": True}


def test_a_value_out_of_range_changes_nothing() -> None:
    owner = SettingsOwner({"strength": 0.5})
    events = events_of(owner)
    with pytest.raises(ValueError, match="strength is 4"):
        owner.choose({"mirror": True, "strength": 4.0})
    with pytest.raises(ValueError, match="strength is 'much'"):
        owner.choose({"strength": "much"})
    with pytest.raises(ValueError, match="no setting 'sparkle'"):
        owner.choose({"sparkle": 1})
    assert owner.standing.chosen == {"strength": 0.5}
    assert owner.undo_label is None
    assert events == []


def test_a_choice_that_cannot_be_had_stays_chosen_and_says_so() -> None:
    owner = SettingsOwner({"loras": "a.safetensors"})
    owner.refuse({"loras": Refused("a.safetensors", "Not in force: a.safetensors is cut off.")})
    assert owner.standing.notes() == {"loras": "Not in force: a.safetensors is cut off."}
    assert owner.standing.chosen == {"loras": "a.safetensors"}
    owner.choose({"loras": "b.safetensors"})
    assert owner.standing.notes() == {}


def test_a_model_that_cannot_be_had_gives_way_to_the_one_that_serves() -> None:
    owner = SettingsOwner({"model": "good", "device": "auto"}, UndoHistory(iter(range(0, 1000, 10)).__next__))
    serving = owner.in_force
    owner.choose({"strength": 0.5})
    owner.choose({"model": "bad"})
    owner.choose({"dtype": "float16"})  # meanwhile
    owner.keep_model(owner.in_force, serving)
    assert owner.standing.chosen == {"model": "good", "device": "auto", "strength": 0.5, "dtype": "float16"}
    assert owner.undo_label == "precision"
    owner.undo()
    assert owner.undo_label == "strength"  # to go to the other model is no step any more
    owner.choose({"device": "xpu:7"})
    owner.keep_model(owner.in_force, serving)
    assert owner.standing.chosen == {"model": "good", "strength": 0.5}  # the device is that by default again
    owner.choose({"model": "bad"})
    refused = owner.in_force
    owner.choose({"model": "third"})  # meanwhile
    owner.keep_model(refused, serving)
    assert owner.in_force.model == "third"


def test_a_preset_binds_no_model_to_what_every_model_recommends() -> None:
    owner = SettingsOwner({"memory": "full", "seed": 7})
    preset, _ = from_text(to_text(Preset("Ink", Settings(stream=StreamConfig(prompt="ink", strength=0.3)))))
    owner.adopt(preset.look, "preset Ink")
    assert owner.standing.chosen == {"prompt": "ink", "strength": 0.3, "memory": "full"}
    owner.recommend("slow", TEN_STEPS, EMBEDDED)
    assert owner.in_force.stream.steps == 10
    owner.adopt(preset.look, "preset Ink")  # on this model one step is a choice
    assert owner.in_force.stream == preset.settings.stream
    owner.undo()
    owner.undo()
    assert owner.standing.chosen == {"memory": "full", "seed": 7}


def test_a_preset_is_taken_whole_before_the_first_model_is_there() -> None:
    owner = SettingsOwner({"loras": "tcd-sd15-lora.safetensors", "solver": "lcm"})  # the choices of the last session
    preset = {"loras": "tcd-sd15-lora.safetensors", "solver": "tcd", "steps": 4}  # what goes with that LoRA
    owner.adopt(preset, "preset")
    known = catalogue()
    assert {name: value_of(owner.in_force, known[name]) for name in preset} == preset
    assert owner.standing.chosen == {"loras": "tcd-sd15-lora.safetensors"}


# -- any order --------------------------------------------------------------------------------------------------------

_VALUES: dict[str, st.SearchStrategy[Value]] = {
    "strength": st.sampled_from([0.2, 0.8, 1.0]),
    "steps": st.sampled_from([1, 4, 10]),
    "solver": st.sampled_from(["lcm", "ddim", "dpmpp-2m"]),
    "guidance": st.sampled_from(["none", "full"]),
    "mirror": st.booleans(),
    "memory": st.sampled_from(MEMORY_MODES),
    "width": st.sampled_from([0, 256, 512]),
    "height": st.sampled_from([0, 256, 512]),
    "model": st.sampled_from(["embedded", "a", "b"]),
    "loras": st.sampled_from(["", "detail.safetensors", "tcd-sd15-lora.safetensors"]),
}
_RECOMMENDED = st.fixed_dictionaries(
    {}, optional={name: _VALUES[name] for name in ("strength", "steps", "solver", "guidance")}
)


@st.composite
def _edits(draw: st.DrawFn) -> dict[str, Value | None]:
    names = draw(st.lists(st.sampled_from(sorted(_VALUES)), min_size=1, max_size=3, unique=True))
    return {name: draw(st.none() | _VALUES[name]) for name in names}


class AnyOrder(RuleBasedStateMachine):
    """Beside the owner stands what must be true of it: the choices, and those before each step of the user."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "settings.json"
        self.chosen: dict[str, Value] = {}
        self.past: list[dict[str, tuple[Value | None, Value | None]]] = []
        self.future: list[dict[str, tuple[Value | None, Value | None]]] = []
        self.limits = Limits()
        self.hear(SettingsOwner())

    def hear(self, owner: SettingsOwner) -> None:
        self.owner = owner
        self.shown = owner.standing
        owner.listen(lambda event: setattr(self, "shown", event.after))
        # Steps far apart in time, so that each is one of its own.
        owner._history = UndoHistory(iter(range(0, 10**9, 10)).__next__)

    def teardown(self) -> None:
        self.folder.cleanup()

    def apply(self, new: Mapping[str, Value | None]) -> None:
        merged = {**self.chosen, **new}
        self.chosen = {name: value for name, value in merged.items() if value is not None}

    @rule(edit=_edits())
    def the_user_edits(self, edit: dict[str, Value | None]) -> None:
        step = {name: (self.chosen.get(name), new) for name, new in edit.items() if self.chosen.get(name) != new}
        self.owner.change(lambda _: edit)
        if step:
            self.past.append(step)
            self.future.clear()
        self.apply(edit)

    @rule(values=st.fixed_dictionaries({name: _VALUES[name] for name in ("strength", "steps", "solver", "loras")}))
    def the_user_takes_a_preset(self, values: dict[str, Value]) -> None:
        before = dict(self.owner.standing.chosen)
        self.owner.adopt(values, "preset")
        after = dict(self.owner.standing.chosen)
        for name, value in values.items():
            assert value_of(self.owner.standing.wanted, catalogue()[name]) == value
        assert all(after.get(name) == before.get(name) for name in {*before, *after} - set(values))
        step = {n: (before.get(n), after.get(n)) for n in values if before.get(n) != after.get(n)}
        if step:
            self.past.append(step)
            self.future.clear()
        self.chosen = after

    @precondition(lambda self: bool(self.past))
    @rule()
    def the_user_undoes(self) -> None:
        step = self.past.pop()
        self.future.append(step)
        self.owner.undo()
        self.apply({name: before for name, (before, _) in step.items()})

    @precondition(lambda self: bool(self.future))
    @rule()
    def the_user_redoes(self) -> None:
        step = self.future.pop()
        self.past.append(step)
        self.owner.redo()
        self.apply({name: after for name, (_, after) in step.items()})

    @rule(recommended=_RECOMMENDED)
    def a_model_comes_in(self, recommended: dict[str, Value]) -> None:
        self.owner.recommend("a model", recommended, self.owner.in_force)

    @rule(mode=st.sampled_from(MEMORY_MODES), pixels=st.sampled_from([None, 192 * 192, 384 * 384]))
    def memory_runs_short(self, mode: str, pixels: int | None) -> None:
        self.owner.limit(Limits(mode, None, pixels, model_of(self.owner.in_force)))

    @rule()
    def the_limits_are_lifted(self) -> None:
        self.owner.lift_limits()

    @rule()
    def the_program_is_started_again(self) -> None:
        save(self.owner.standing.chosen, self.path)
        chosen, notes = load(self.path)
        assert notes == []
        self.past, self.future = [], []
        self.hear(SettingsOwner(chosen))

    @initialize()
    def nothing_is_chosen(self) -> None:
        assert self.owner.standing.chosen == {}

    @invariant()
    def the_chosen_are_the_chosen(self) -> None:
        assert dict(self.owner.standing.chosen) == self.chosen

    @invariant()
    def what_is_shown_is_what_runs(self) -> None:
        standing = self.owner.standing
        assert self.shown == standing
        expected = with_values(Settings(), catalogue(), {**standing.recommended, **self.chosen})
        assert standing.wanted == expected
        assert standing.in_force == standing.limits.applied_to(expected)
        # Whatever is not in force as it is wanted is said beside its control.
        other = {n for n, e in catalogue().items() if value_of(standing.in_force, e) != value_of(standing.wanted, e)}
        assert other <= set(standing.notes())
        assert replace(standing.in_force, stream=standing.wanted.stream) == standing.in_force

    @invariant()
    def there_is_an_undo_where_the_user_did_something(self) -> None:
        assert (self.owner.undo_label is not None) == bool(self.past)
        assert (self.owner.redo_label is not None) == bool(self.future)


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase
