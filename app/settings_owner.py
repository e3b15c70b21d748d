"""The one owner of the settings: every change of them, whoever makes it, goes through here and is told to all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from app.catalogue import catalogue, differences, with_values
from app.model_defaults import with_loras
from app.settings import Settings
from app.standing import MODEL_SETTINGS, NO_LIMITS, Limits, Refused, Standing, Values, model_of
from app.undo import UndoHistory, changed, difference
from pipeline.setting import Value


class Origin(Enum):
    """Who changed the settings."""

    USER = "user"
    UNDO = "undo"  # the user, taking a step back or doing it again
    PROGRAM = "program"  # a script, the tour of the demo: not for the user to undo
    MODEL = "model"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """The settings stand otherwise.

    Attributes:
        before, after: how they stood and how they stand.
        origin: who changed them.
    """

    before: Standing
    after: Standing
    origin: Origin


class SettingsOwner:
    """Holds how the settings stand. Everything here may be called from any thread.

    A change is made from what stands now, under a lock, so that of two changes at the same time neither is lost.
    Listeners are told outside the lock, on the thread that made the change. With changes from several threads, events
    may arrive in another order than the changes; a listener therefore reads ``standing``, which is never old.

    Args:
        chosen: what the person has chosen so far.
        history: of the steps to undo; a new one by default.
    """

    def __init__(self, chosen: Values | None = None, history: UndoHistory | None = None) -> None:
        self._lock = threading.Lock()
        self._standing = Standing(dict(chosen or {}))
        self._defaults: Mapping[str, object] = {}  # of the model without LoRAs
        self._history = history or UndoHistory()
        self._listeners: tuple[Callable[[SettingsChanged], None], ...] = ()

    # -- looking on ---------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """How the settings stand now."""
        return self._standing

    @property
    def in_force(self) -> Settings:
        """The settings that the next frame is captured with."""
        return self._standing.in_force

    @property
    def undo_label(self) -> str | None:
        """What ``undo`` would take back; None where there is nothing."""
        return self._history.undo_label

    @property
    def redo_label(self) -> str | None:
        """What ``redo`` would do again; None where there is nothing."""
        return self._history.redo_label

    def listen(self, listener: Callable[[SettingsChanged], None]) -> Callable[[], None]:
        """Tell ``listener`` of every change; it must be quick and must not raise. The result ends that."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return end

    # -- the person's choices -----------------------------------------------------------------------------------------

    def change(
        self,
        edit: Callable[[Standing], Mapping[str, Value | None]],
        origin: Origin = Origin.USER,
        label: str = "settings",
    ) -> None:
        """Take other choices.

        Where a value is chosen that memory limits, the limit is lifted: it is wanted that this is tried.

        Args:
            edit: gives the values to choose by name, from how the settings stand; None chooses nothing for a setting,
                so that the model's recommendation or the default holds. Called under the lock.
            origin: who changes them; a change of the user can be undone.
            label: what is changed, for people.

        Raises:
            ValueError: a value is out of its range, or there is no such setting; nothing is changed.
        """

        def changed_by(before: Standing) -> Standing:
            after = _with_choices(before, _checked(edit(before)))
            if origin is Origin.USER:
                self._history.record(label, difference(before.chosen, after.chosen))
            return after

        self._set(changed_by, origin)

    def choose(self, values: Values, origin: Origin = Origin.USER, label: str = "") -> None:
        """Choose these values. Raises ``ValueError``."""
        self.change(lambda _: values, origin, label or _labels(values))

    def unchoose(self, *names: str) -> None:
        """Choose nothing for these settings: the model's recommendation or the default holds again."""
        self.change(lambda _: dict.fromkeys(names), label=_labels(names))

    def adopt(self, values: Values, label: str, origin: Origin = Origin.USER) -> None:
        """Have these values, a preset's, in one step; those that would be so anyway do not count as chosen.

        So a preset that says what every model recommends does not bind those that recommend something else.
        """

        def edit(now: Standing) -> Mapping[str, Value | None]:
            # Its LoRAs decide what is recommended beside them.
            unchosen = self._with_recommendations(replace(now, chosen={**now.chosen, **values})).unchosen
            other = differences(unchosen, with_values(unchosen, catalogue(), values))
            wanted = {name: other.get(name) for name in values}
            return {name: value for name, value in wanted.items() if value != now.chosen.get(name)}

        # What goes with the LoRAs of the last session may not be known yet, and here it must be.
        self._set(self._with_recommendations, Origin.MODEL)
        self.change(edit, origin, label)

    def follow(self, settings: Settings, origin: Origin = Origin.PROGRAM) -> None:
        """Choose what is other in ``settings`` than what is in force now; the rest stays as it was chosen, or not."""
        self.change(lambda now: differences(now.in_force, settings), origin)

    def undo(self) -> None:
        """Take the user's last step back: that one alone, whatever else has changed since."""
        self._step(self._history.undo)

    def redo(self) -> None:
        """Do the step again that was taken back last."""
        self._step(self._history.redo)

    # -- what stands beside them --------------------------------------------------------------------------------------

    def recommend(self, name: str, defaults: Mapping[str, object], model: Settings) -> None:
        """Another model serves, which recommends ``defaults``; limits that were found for the one before end.

        Args:
            name: of the model, for people.
            defaults: for the stream's settings, by name.
            model: the settings that it was loaded with.
        """

        def followed(before: Standing) -> Standing:
            self._defaults = defaults
            known_for_it = before.limits.model == model_of(model)
            after = replace(before, model=name, limits=before.limits if known_for_it else NO_LIMITS)
            return self._with_recommendations(after)

        self._set(followed, Origin.MODEL)

    def limit(self, limits: Limits) -> None:
        """Memory allows no more than this."""
        self._set(lambda before: replace(before, limits=limits), Origin.MEMORY)

    def lift_limits(self) -> None:
        """Try again with all the memory that the choices ask for."""
        self._set(lambda before: replace(before, limits=NO_LIMITS), Origin.USER)

    def refuse(self, refused: Mapping[str, Refused]) -> None:
        """These choices cannot be had. They stay chosen, and what runs is without them."""
        self._set(lambda before: replace(before, refused=refused), Origin.MODEL)

    def keep_model(self, refused: Settings, serving: Settings) -> None:
        """The model of ``refused`` cannot be had: where it is still wanted, go back to the one of ``serving``.

        Where it is another model, that choice alone goes back, and the user's step to it is no step any more. Else what
        was to be other about the same model goes back: its device, say.
        """

        def kept(before: Standing) -> Standing:
            if model_of(before.in_force) != model_of(refused):
                return before
            served, other = differences(before.unchosen, serving), differences(serving, refused)
            names = ["model"] if "model" in other else [name for name in MODEL_SETTINGS if name in other]
            for name in names:
                self._history.forget(name, other[name])
            return _with_choices(before, {name: served.get(name) for name in names})

        self._set(kept, Origin.MODEL)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _step(self, take: Callable[[], Mapping[str, Value | None] | None]) -> None:
        def stepped(before: Standing) -> Standing:
            choices = take()
            return before if choices is None else _with_choices(before, choices)

        self._set(stepped, Origin.UNDO)

    def _set(self, make: Callable[[Standing], Standing], origin: Origin) -> None:
        with self._lock:
            before = self._standing
            after = make(before)
            if after.wanted.stream.loras != before.wanted.stream.loras:
                after = self._with_recommendations(after)
            if after == before:
                return
            self._standing = after
            listeners = self._listeners
        event = SettingsChanged(before, after, origin)
        for listener in listeners:
            listener(event)

    def _with_recommendations(self, standing: Standing) -> Standing:
        """LoRAs of few steps bring a solver and a number of steps of their own, so they count among the model.

        To know them takes the engine's code, which takes seconds to import: that is left to the first model, or to
        whoever chooses a LoRA.
        """
        return replace(standing, recommended=with_loras(self._defaults, standing.wanted.stream))


def _checked(values: Mapping[str, Value | None]) -> dict[str, Value | None]:
    """Values as the settings hold them. Raises ``ValueError`` with one sentence."""
    known, checked = catalogue(), dict[str, Value | None]()
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"there is no setting {name!r}")
        if value is not None and (problem := known[name].problem(value)):
            raise ValueError(problem)
        checked[name] = None if value is None else known[name].taken(value)
    return checked


def _with_choices(before: Standing, new: Mapping[str, Value | None]) -> Standing:
    return replace(before, chosen=changed(before.chosen, new), limits=before.limits.without(new))


def _labels(names: Iterable[str]) -> str:
    known = catalogue()
    return " and ".join(known[name].label.lower() if name in known else name for name in names)
