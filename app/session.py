"""A session: one source, one engine, some sinks, and the three threads between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any

from app.capture import CaptureThread
from app.catalogue import in_words
from app.display import DisplayThread
from app.engine import Loader, ModelFacts, load_engine
from app.frame import Frame
from app.frame_queue import FILE, LIVE, FrameQueue
from app.messages import Captured, EndOfSource, Styled
from app.metrics import Metrics, Snapshot
from app.report import report
from app.settings import Settings
from app.settings_owner import Origin, SettingsChanged, SettingsOwner
from app.sinks.base import Sink
from app.sources.base import Source
from app.standing import Refused, choices_in
from app.status import Notice, SessionState, Status, StatusBoard
from app.worker import WorkerThread

STOP_SECONDS = 2.0


class Session:
    """Runs frames from a source through the engine to the sinks, until stopped.

    ::

        source ─► Feed ─► CaptureThread ─► input queue ─► WorkerThread ─► output queue ─► DisplayThread ─► sinks
           crop, resize,  retries,         bounded        settings,       bounded         to uint8,
           to tensor      replaces                        engine                          fan out

                        live: newest wins, nothing waits        files: every frame, in order

    Live frames also go to the display thread directly: for those that have no picture yet, it carries the last one
    along the motion (``app/reprojection``).

    A session owns its threads and queues; the threads share nothing but these, the metrics and the status board. Each
    source has a number, its epoch: what is not of the newest source is dropped wherever it is met.
    Settings are one immutable value: ``update`` replaces it, the capture thread sends it along with each frame, and
    the worker acts on what differs from one frame to the next.

    The end of a file goes through both queues behind its last frame; the state is ``ENDED`` when all frames have been
    written. A session then waits for ``set_source``, unless it is to run ``once``: then the sinks are finished and the
    threads end. Whatever a thread cannot recover from ends the session as ``FAILED``; what was written is finished.

    Args:
        source: where frames come from.
        settings: how they are treated, or the owner of the settings where the caller has one, with the choices of a
            person in it. What is other than by default in plain settings counts as chosen.
        sinks: where they go; they are opened here, on the caller's thread.
        loader: makes an engine of settings.
        once: end with the source.
        chosen: names of settings that are as they were chosen, also where that is the default: no model's
            recommendation changes them.
        listener: told of every new status and every notice, on the thread where it arose; it must be quick and must
            not raise.
        preview: is shown the frames of a live source while the first model is on its way in; as ``listener``.

    Raises:
        SinkError: a sink cannot be opened.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings | SettingsOwner | None = None,
        sinks: Iterable[Sink] = (),
        *,
        loader: Loader = load_engine,
        once: bool = False,
        chosen: Collection[str] = (),
        listener: Callable[[Status | Notice], None] | None = None,
        preview: Callable[[Frame], None] | None = None,
    ) -> None:
        if not isinstance(settings, SettingsOwner):
            settings = SettingsOwner(choices_in(settings or Settings(), chosen))
        self.owner = settings
        self._once = once
        self._metrics = Metrics()
        self._board = StatusBoard(listener)
        self._inputs: FrameQueue[Captured | EndOfSource] = FrameQueue(*FILE)
        self._outputs: FrameQueue[Styled | EndOfSource] = FrameQueue(*FILE)
        self._sights: FrameQueue[Captured] = FrameQueue(*LIVE, beside=self._outputs)
        self._capture = CaptureThread(
            source,
            self._inputs,
            lambda: self.owner.standing,
            self._board,
            self._metrics,
            self._fail,
            once=once,
            sights=self._sights,
            preview=preview,
        )
        self._worker = WorkerThread(
            self._inputs,
            self._outputs,
            self.owner,
            loader,
            self._board,
            self._metrics,
            self._fail,
            once=once,
        )
        self._display = DisplayThread(self._outputs, self._board, self._metrics, self._fail, self._sights)
        self._threads: tuple[threading.Thread, ...] = (self._capture, self._worker, self._display)
        self._started = False
        self.owner.listen(self._tell_recommended)
        try:
            for sink in sinks:
                self._display.add(sink)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- running ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads; the model loads and the source opens beside each other. At most once."""
        self._started = True
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """End the session within ``timeout`` seconds, whatever the threads are doing; sinks are finished.

        Frames still on their way are discarded. May be called more than once, and from any thread but the session's.

        Returns:
            Whether all threads have ended. One that is stuck in a driver or in a long model call is left behind; it
            is a daemon and ends with the process.
        """
        self._board.finish(SessionState.STOPPED, "Stopped")
        self._shut(drain=False)
        if not self._started:
            self._display.run()  # its queue is closed, so that all it does is finish the sinks
            return True
        return self._join(timeout)

    def wait(self, timeout: float | None = None) -> Status:
        """Sleep until the source has ended or the session is over, for ``timeout`` seconds at most.

        With ``once``, the end of the source includes that the sinks are finished.

        Returns:
            The status then; its state tells whether the time was up.
        """
        until = None if timeout is None else time.monotonic() + timeout
        status = self._board.wait(lambda now: now.state.final or now.state is SessionState.ENDED, timeout)
        if status.state.final:
            self._join(STOP_SECONDS)
        elif self._once and status.state is SessionState.ENDED:
            self._join(None if until is None else until - time.monotonic())
        return self.status

    @property
    def running(self) -> list[str]:
        """The names of the threads that have not ended."""
        return [thread.name for thread in (*self._threads, *self._capture.feeds) if thread.is_alive()]

    # -- changes while running ----------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings that the next frame is captured with."""
        return self.owner.in_force

    def update(self, settings: Settings) -> None:
        """Go on with other settings from the next captured frame on. Never waits.

        What is other than now counts as chosen. Who changes single settings uses ``owner``, which loses no change that
        somebody else makes at the same time.
        """
        self.owner.follow(settings)

    def set_model(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        """Go on with another model; the present one serves until it is loaded, and after that if it cannot be."""
        self.owner.choose({"model": model, "device": device, "dtype": dtype}, Origin.PROGRAM)

    def cancel_loading(self) -> None:
        """Give up a model's download; what has arrived is kept. Where no model serves yet, the session then fails.

        Whoever sets another model, or the one before, need not ask for it.
        """
        self._worker.cancel_loading()

    def set_source(self, source: Source, *, cut: bool = False) -> None:
        """Go on with another source, at once: nothing more of the old one is shown, and its end ends nothing.

        Args:
            source: serves once: give a new one even to start the same file or camera again.
            cut: what is shown from now on begins another take: a recording goes on without the time in between.
        """
        self._capture.replace(source, cut=cut)

    @property
    def open_sources(self) -> list[Source]:
        """Those that are being opened, are open, or are not let go of yet: more than one where a driver is slow."""
        return [feed.source for feed in self._capture.feeds]

    def add_sink(self, sink: Sink) -> None:
        """Open ``sink`` here and send it every picture from now on. Raises ``SinkError``."""
        self._display.add(sink)

    def remove_sink(self, sink: Sink) -> None:
        """Finish ``sink`` here and send it no more. Raises ``SinkError`` where its end could not be written."""
        self._display.remove(sink)

    def detach_sink(self, sink: Sink) -> None:
        """Send ``sink`` no more, and leave it to the caller to finish it: a recording takes its time."""
        self._display.detach(sink)

    @property
    def sinks(self) -> list[Sink]:
        """Those that take pictures; one that failed is no longer among them."""
        return self._display.sinks

    # -- looking on ---------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """How the session is."""
        return self._board.status

    @property
    def state(self) -> SessionState:
        """The state alone."""
        return self._board.status.state

    @property
    def notices(self) -> list[Notice]:
        """What happened so far that the user should know, the latest last."""
        return self._board.notices

    @property
    def model(self) -> ModelFacts | None:
        """The model that serves; None until the first one is loaded."""
        return self._board.model

    @property
    def serving(self) -> Settings | None:
        """The settings with which the model was loaded that serves; None until the first one is."""
        return self._worker.serving

    @property
    def refused_model(self) -> Refused | None:
        """The model that was wanted last and could not be had; None where another has come in since."""
        return self._worker.refused_model

    @property
    def loading(self) -> bool:
        """Whether a model is on its way in, the first one or another."""
        return self._worker.loading

    @property
    def fetched(self) -> tuple[int, int] | None:
        """Bytes so far and in all (0: not known) of a model's download; None where there is none."""
        return self._worker.fetched

    def metrics(self) -> Snapshot:
        """All counters as they stand now."""
        return self._metrics.snapshot()

    def report(self) -> dict[str, Any] | None:
        """The report of the session so far (see ``app/report.py``); None until a model is loaded."""
        model = self.model
        return report(self.metrics(), self.settings, model) if model else None

    # -- the end ------------------------------------------------------------------------------------------------------

    def _tell_recommended(self, event: SettingsChanged) -> None:
        """Say what a new model, or a LoRA of few steps, has changed."""
        adapted = event.after.adapted_since(event.before)
        if adapted:
            model, loras = event.after.model, event.after.in_force.stream.loras
            whose = "these LoRAs" if event.origin is not Origin.MODEL else f"{model} with its LoRAs" if loras else model
            self._board.notice(f"As suits {whose}: {in_words(adapted)}.")

    def _fail(self, error: Exception) -> None:
        if self._board.finish(SessionState.FAILED, str(error) or type(error).__name__, error):
            self._shut(drain=True)

    def _shut(self, *, drain: bool) -> None:
        self._capture.halt()
        self._inputs.close(drain=False)
        self._sights.close(drain=False)
        self._outputs.close(drain=drain)

    def _join(self, timeout: float | None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        for thread in (*self._threads, *self._capture.feeds):
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not self.running
