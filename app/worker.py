"""The second thread: from the input queue through the engine to the output queue."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from app.adapter_gate import AdapterGate
from app.change_tracker import ChangeTracker
from app.engine import Engine, EngineOutput, Loader, ModelLoading
from app.frame import Frame
from app.frame_queue import FILE, LIVE, Closed, FrameQueue
from app.memory import Ladder, Retake
from app.messages import Captured, EndOfSource, Styled
from app.metrics import Metrics
from app.model_swap import ModelSwap
from app.settings import Settings
from app.settings_owner import SettingsOwner
from app.standing import Refused
from app.status import StatusBoard
from app.tensors import give_memory_back, mark, stacked
from app.words import remarks, runnable
from pipeline.out_of_memory import ran_out_of_memory
from pipeline.setting import Cost, cost_of_change

# A live engine that fails this often in a row will not recover.
MOST_FAILURES = 3
# A live source that has given no frame for so long has stalled.
STALL_SECONDS = 0.5


class WorkerThread(threading.Thread):
    """Groups frames, follows the settings, runs the engine.

    Settings come with each frame. Where they differ from those of the frame before, the cheapest sufficient thing is
    done between the two: nothing, ``configure``, or another model, which is loaded beside while the old one serves.
    For a file, frames in flight are brought out first wherever a change could lose them.

    An engine that raises is reset and goes on with the next live frame; after three failures in a row, and for files
    at once, the session fails. Where it lacks memory, less is asked of it (see ``app/memory.py``), and the frames of a
    file that are not out yet are run once more.

    While the device works on one group, the next one that is there is uploaded and asked for; the pictures are sent as
    soon as they are done. No more than these two are under way, so latency cannot pile up in the device unseen.

    Where a live source stalls, frames in flight are brought out, for as long as nothing else comes: without another
    frame they would stay, and with one, what was before the stall would be shown after it.

    Args:
        inputs, outputs: the queues on either side; ``outputs`` follows the source.
        owner: of the settings; it is told what a model recommends, what memory allows and what cannot be had.
        loader: makes an engine of settings.
        board, metrics: where to report.
        fail: called with the exception that ended the thread, if one did.
        once: close ``outputs`` and end the thread at the end of the source, instead of waiting for another.
    """

    def __init__(
        self,
        inputs: FrameQueue[Captured | EndOfSource],
        outputs: FrameQueue[Styled | EndOfSource],
        owner: SettingsOwner,
        loader: Loader,
        board: StatusBoard,
        metrics: Metrics,
        fail: Callable[[Exception], None],
        *,
        once: bool = False,
    ) -> None:
        super().__init__(name="vitrail-worker", daemon=True)
        self._owner = owner
        self._adapters = AdapterGate(board.notice, owner.refuse)
        self._inputs = inputs
        self._outputs = outputs
        self._board = board
        self._metrics = metrics
        self._fail = fail
        self._once = once
        self._changes = ChangeTracker()
        self._models = ModelSwap(loader, board.wake)
        self._engine: Engine | None = None
        self._release: Callable[[], None] = lambda: None  # of the engine
        self._news: Callable[[], Sequence[str]] = tuple  # of what it has going on beside
        self._applied = owner.in_force  # what the engine follows
        self._group: list[Captured] = []  # frames that wait for their group to fill
        self._retake = Retake()
        self._ladder = Ladder(owner, board)
        self._end: EndOfSource | None = None  # of the present source, until it is passed on
        self._epoch = 0
        self._live = False
        self._underway: tuple[Styled, Callable[[], object]] | None = None  # pictures, and what waits for them
        self._waiting = False  # whether frames wait for others, in the group or in the engine
        self._picture = 0  # how many pictures, or groups of them, the engine has made so far
        self._failures = 0  # in a row
        self._must_reset = False
        self._size: tuple[int, ...] = ()  # of the tensors that the engine has seen last
        self._refused: Refused | None = None  # the last model that could not be had

    @property
    def serving(self) -> Settings | None:
        """The settings with which the model was loaded that serves; None before the first."""
        return self._models.serving

    @property
    def refused_model(self) -> Refused | None:
        """The model that was wanted last and could not be had, until another one has come in."""
        return self._refused

    @property
    def loading(self) -> bool:
        """Whether a model is on its way in."""
        return self._models.loading

    @property
    def fetched(self) -> tuple[int, int] | None:
        """Bytes so far and in all of a model's download; None where there is none."""
        return self._models.fetched

    def cancel_loading(self) -> None:
        """Give up a model's download. May be called from any thread."""
        self._models.cancel()

    def run(self) -> None:
        while True:
            try:
                self._work()
                break
            except Closed:
                break
            except Exception as error:  # noqa: BLE001 - an engine may raise anything; nothing may end a thread unseen
                problem = self._problem_after(error)
                if problem is not None:
                    self._fail(problem)
                    break
        self._models.close()
        self._release()
        self._engine, self._release, self._news = None, lambda: None, tuple  # a window may keep a session that is over

    def _work(self) -> None:
        if self._engine is None:
            self._load_first()
        if self._must_reset:
            self._reset()
        while True:
            if self._end is not None and self._pass_on_end(self._end):
                return
            item = self._retake.next() or self._next_input()
            if item.epoch != self._board.epoch:
                self._metrics.dropped(isinstance(item, Captured))
                continue
            if item.epoch != self._epoch:
                self._begin_source(item)
            if isinstance(item, EndOfSource):
                self._end = item  # noted first: should the engine fail on the tail, the end must still arrive
                self._drain()
                self._report()
            else:
                self._take(item)

    def _next_input(self) -> Captured | EndOfSource:
        """What comes next, however long it takes; where a live source stalls, the frames before do not wait for it."""
        if not len(self._inputs):
            self._hand_on()
        patience = STALL_SECONDS
        while self._live and self._waiting:
            try:
                return self._inputs.get(patience)
            except TimeoutError:
                self._idle()
                patience = 0
        return self._inputs.get()

    def _problem_after(self, error: Exception) -> Exception | None:
        """What the session fails with after ``error``; None where it goes on, and ``error`` has been reported."""
        if self._engine is not None and ran_out_of_memory(error):
            return self._problem_with_memory(error)
        self._failures += 1
        if self._engine is None or not self._live or self._failures >= MOST_FAILURES:
            return error
        self._board.notice(f"A frame was lost, the engine starts over: {error}", error)
        self._give_up_group()
        return None

    def _problem_with_memory(self, error: Exception) -> Exception | None:
        """As ``_problem_after``, for an ``error`` that less work may not meet again."""
        self._retake.start_over(self._end)
        self._end = None
        self._give_up_group()
        size = (self._size[2], self._size[1]) if len(self._size) == 3 else None
        return self._ladder.step_after(error, self._applied, size, live=self._live)

    def _give_up_group(self) -> None:
        if self._live:
            self._metrics.dropped(len(self._group))
        self._group = []
        self._must_reset = True

    # -- sources ------------------------------------------------------------------------------------------------------

    def _begin_source(self, item: Captured | EndOfSource) -> None:
        # The old source was given up by whoever replaced it, and so are its frames in flight.
        self._metrics.dropped(len(self._group))
        self._group = []
        self._hand_on()
        self._retake.forget()
        self._epoch = item.epoch
        self._live = item.live
        self._outputs.follow(*(LIVE if item.live else FILE))
        self._reset()

    def _pass_on_end(self, end: EndOfSource) -> bool:
        """Send the end of the source on; True where the thread ends with it."""
        self._end = None
        self._put(end)
        over = self._once and end.epoch == self._board.epoch
        if over:
            self._outputs.close()
        return over

    def _reset(self) -> None:
        self._changes.forget()
        if self._engine is not None:
            self._engine.wait_for_engines(not self._live)
            self._engine.reset()
        self._must_reset = self._waiting = False

    # -- frames -------------------------------------------------------------------------------------------------------

    def _take(self, item: Captured) -> None:
        self._retake.entered(item)
        self._waiting = True
        if self._group and (_size(item) != self._size or item.settings.frame_buffer != self._applied.frame_buffer):
            self._run_group()
        if not self._group:  # a group is of one mind: the settings of its first frame are those of all
            self._follow(item)
        self._group.append(item)
        if len(self._group) >= self._applied.frame_buffer:
            self._run_group()

    def _run_group(self) -> None:
        """Run what is in the group, repeating its last frame until the group has its full size."""
        engine, group = self._engine, self._group
        assert engine is not None
        missing = self._applied.frame_buffer - len(group)
        tags: list[Frame | None] = [one.frame for one in group]
        tensors = [one.frame.tensor for one in group if one.frame.tensor is not None]
        model = self._board.model
        frames = stacked(tensors, self._applied.frame_buffer, model.device if model else "cpu")
        last = group[-1].frame
        at = last.captured_at if last.media_time is None else last.media_time
        changed = self._changes.changed(group, len(frames))
        output = engine(frames, tags=tuple(tags + [None] * missing), at=at, changed=changed)
        self._changes.took(group, len(frames))
        if output.skipped:
            self._metrics.skipped(len(group))
        self._send(output)
        self._group = []
        self._failures = 0
        self._ladder.fits()

    def _idle(self) -> None:
        """Bring what is waiting or in flight one step nearer to its end."""
        if self._group:
            self._run_group()
        elif self._engine is not None and (output := self._engine.idle()) is not None:
            self._send(output)
        else:
            self._waiting = False
        self._hand_on()

    def _drain(self) -> None:
        """Bring everything out that is waiting or in flight."""
        if self._group:
            self._run_group()
        if self._engine is not None:
            self._send_all(self._engine.flush())
        self._waiting = False
        self._hand_on()

    def _send_all(self, outputs: Iterable[EngineOutput]) -> None:
        for output in outputs:
            self._send(output)

    def _send(self, output: EngineOutput) -> None:
        """Send the pictures of a call, and in a file, where every frame counts, once more for those that share them.

        In a live source these frames are none to wait for: the pictures are shown as those of the frames that they were
        made from, with their latency, and may then be carried along the motion since.
        """
        if output.repeated:
            return
        self._picture += not output.skipped
        for tags in (output.tags, *(() if self._live else output.followers)):
            self._send_for(tags, output)

    def _send_for(self, tags: Iterable[Hashable], output: EngineOutput) -> None:
        frames = tuple(tag for tag in tags if isinstance(tag, Frame))  # a last group's padding has no frame
        if not frames:
            return
        self._retake.left(frames)
        images, hints, alphas = (
            None if one is None else one[: len(frames)] for one in (output.image, output.hint, output.alpha)
        )
        assert images is not None, "there is always a picture"
        name = self._board.model.name if self._board.model is not None else ""
        styled = Styled(
            images, frames, self._picture, self._epoch, self._applied, self._live, name, hints=hints, alphas=alphas
        )
        done = mark(images.device)
        self._hand_on()
        if done is None:
            self._report()
            self._put(styled)
        else:
            self._underway = styled, done

    def _hand_on(self) -> None:
        """Send the pictures that are under way, once they are done.

        The one synchronisation: without it, this thread would run ahead of the device. An error of the device also
        comes to light here, where it is handled.
        """
        if self._underway is None:
            return
        (styled, wait), self._underway = self._underway, None
        wait()
        self._report()
        self._put(styled)

    def _put(self, item: Styled | EndOfSource) -> None:
        if item.epoch != self._board.epoch:
            self._metrics.dropped(len(item.frames) if isinstance(item, Styled) else 0)
            return
        for displaced in self._outputs.put(item):
            if isinstance(displaced, Styled):
                self._metrics.dropped(len(displaced.frames))

    def _report(self) -> None:
        if self._engine is not None:
            self._metrics.stages(self._engine.stages_ms())
            self._metrics.accelerated(self._engine.progress())
            self._metrics.compared(self._engine.similarity)
        for note in self._news():
            self._board.notice(note)

    # -- settings -----------------------------------------------------------------------------------------------------

    def _load_first(self) -> None:
        """Load the model of the settings, with nothing that could serve meanwhile."""
        loading = self._models.load(self._applied)
        status = self._board.wait(lambda status: loading.done or status.state.final)
        if status.state.final:
            raise Closed
        self._models.arrived()
        if self._adopt(loading):
            return
        if not ran_out_of_memory(loading.error):
            raise loading.error or RuntimeError("the model loader came back with nothing")
        self._applied = self._ladder.step_before_loading(loading.error, self._applied)
        self._load_first()

    def _adopt(self, loading: ModelLoading) -> bool:
        """Go on with the model that has come in; False where it could not be loaded."""
        if loading.loaded is None:
            return False
        problem = loading.loaded.problem
        if problem is not None and self._once:
            loading.abandon()
            raise problem  # a film is made as it was asked for, or not at all
        self._hand_on()
        self._release()
        self._refused = None
        self._engine = loading.loaded.engine
        self._release = loading.loaded.release
        self._news = loading.loaded.news
        self._applied = replace(loading.settings, stream=loading.loaded.stream or loading.settings.stream)
        self._engine.wait_for_engines(self._epoch > 0 and not self._live)
        self._models.serve(loading.settings)
        self._changes.forget()
        self._owner.recommend(loading.loaded.facts.name, loading.loaded.facts.defaults, loading.settings)
        self._board.model = loading.loaded.facts
        for note in loading.loaded.notes:
            self._board.notice(note)
        return True

    def _follow(self, item: Captured) -> None:
        """Make the engine follow the settings and the size that ``item`` came with."""
        new = self._ladder.within(item)
        self._models.want(new)
        cost = max(cost_of_change(self._applied, new), cost_of_change(self._applied.stream, new.stream))
        if not self._live and (self._models.done or cost >= Cost.SLOTS or _size(item) != self._size):
            self._drain()
        arrived = self._models.arrived()
        if arrived:
            self._swap(arrived)
        self._size = _size(item)
        if self._engine is not None and new.memory != self._applied.memory:
            self._applied = replace(self._applied, memory=new.memory)  # first: what it lacks memory for is this
            self._engine.save_memory(new.memory)
        if self._engine is not None and new.stream != self._applied.stream:
            model = self._board.model
            assert model is not None, "its engine is here"
            for remark in remarks(self._applied.stream, new.stream, model.sees_input, model.timesteps):
                self._board.notice(remark)
            admitted = self._adapters.admit(self._engine, new.stream, self._applied.stream, live=self._live)
            new = replace(new, stream=admitted)
            if admitted != self._applied.stream:
                for note in self._engine.configure(runnable(admitted, model.timesteps)):
                    self._board.notice(note)
        self._applied = new

    def _swap(self, arrived: ModelLoading) -> None:
        """Go on with the model that has come in, or with the one before where it could not be loaded."""
        name, error, before = arrived.settings.model, arrived.error, self._models.serving
        if self._adopt(arrived):
            give_memory_back()
        elif not ran_out_of_memory(error):
            self._keep(before, arrived.settings, error)
            self._board.notice(f"{name}: {error}; the model before it goes on", error)
        elif before is not None:
            self._board.notice(f"Memory is too short for two models; the picture stops until {name} is loaded.", error)
            self._swap_alone(arrived.settings, before)

    def _swap_alone(self, settings: Settings, before: Settings) -> None:
        """Load a model after the one that serves was given up; where that fails, the old one again."""
        self._hand_on()
        self._release()
        self._engine, self._release, self._news = None, lambda: None, tuple
        self._models.serve(None)
        give_memory_back()
        self._applied = settings
        try:
            self._load_first()
        except Closed:
            raise
        except Exception as error:  # noqa: BLE001 - a loader may raise anything; the old model did load
            self._board.notice(f"{settings.model}: {error}; the model before it is loaded again", error)
            self._applied = before
            self._load_first()
            self._models.give_up(settings)
            self._keep(before, settings, error)

    def _keep(self, before: Settings | None, refused: Settings, error: Exception | None) -> None:
        """Frames that are still to come are for the model of ``before``, as the one of ``refused`` cannot be had."""
        self._refused = Refused(refused.model, f"{error}")
        if before is not None:
            self._owner.keep_model(refused, before)


def _size(item: Captured) -> tuple[int, ...]:
    tensor = item.frame.tensor
    return tuple(tensor.shape) if tensor is not None else ()
