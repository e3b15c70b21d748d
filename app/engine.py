"""What the worker needs of an engine, and how one is made: the seam at which tests put a scripted engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from app.fetching import FetchCancelled, Progress
from app.model_defaults import adapted, with_loras
from app.settings import Settings
from app.words import remarks, runnable, without_files
from pipeline.config import StreamConfig

if TYPE_CHECKING:
    import torch


class EngineOutput(Protocol):
    """The pictures of one engine call (``pipeline.Output``)."""

    @property
    def image(self) -> torch.Tensor:
        """(F, 3, H, W) float 0..1 on the engine's device."""
        ...

    @property
    def tags(self) -> Sequence[Hashable]:
        """F tags: whose pictures these are."""
        ...

    @property
    def skipped(self) -> bool:
        """The similarity filter left the frames of the call out."""
        ...

    @property
    def repeated(self) -> bool:
        """The picture of these tags was returned before; it is not to be shown twice."""
        ...

    @property
    def followers(self) -> Sequence[Sequence[Hashable]]:
        """The tags of later calls whose frames were left out as they are like these: it is their picture, too."""
        ...

    @property
    def hint(self) -> torch.Tensor | None:
        """(F, 3, H, W) float 0..1 on the engine's device: the hint that these were made with; None for none."""
        ...

    @property
    def alpha(self) -> torch.Tensor | None:
        """(F, 1, H, W) float 0..1, how opaque the pictures are; None where they are."""
        ...


class Engine(Protocol):
    """A stream of pictures through a model (``pipeline.Stream``); used by one thread at a time."""

    @property
    def similarity(self) -> float:
        """Cosine similarity (0..1) that the similarity filter last saw."""
        ...

    def __call__(
        self,
        frames: torch.Tensor,
        /,
        *,
        tags: Sequence[Hashable],
        at: float | None,
        changed: Sequence[Sequence[tuple[int, int, int, int]] | None] | None = None,
    ) -> EngineOutput:
        """Take frames (F, 3, H, W) float32 0..1 with F tags; return what comes out at this tick.

        ``at`` is when the last of them was taken, in seconds of the source's clock. ``changed``: for each frame the
        rectangles (left, top, right, bottom) outside of which it equals the one at its place in the last call; None
        where that is not known.
        """
        ...

    def idle(self) -> EngineOutput | None:
        """No frame has come for a while: what comes out when those in flight take a step; None if all are out."""
        ...

    def flush(self) -> Iterable[EngineOutput]:
        """The pictures of all frames still in flight, in order, each once."""
        ...

    def configure(self, config: StreamConfig, /) -> Sequence[str]:
        """Follow new settings from the next frame on; notes for the user."""
        ...

    def save_memory(self, mode: str, /) -> None:
        """Run in another of ``MEMORY_MODES`` from the next frame on."""
        ...

    def is_prepared(self, config: StreamConfig, /) -> bool:
        """Whether all files that ``config`` names have been read."""
        ...

    def prepare(self, config: StreamConfig, /) -> Sequence[str]:
        """Read them, on any thread; notes for the user. Raises where one cannot be used."""
        ...

    def reset(self) -> None:
        """Forget the frames in flight."""
        ...

    def wait_for_engines(self, wait: bool, /) -> None:
        """Whether pictures wait for what is to draw all of them, as those of a file do, so that they look alike."""
        ...

    def stages_ms(self) -> Mapping[str, float]:
        """Median milliseconds of ``encode``, ``unet`` and ``decode``."""
        ...

    def progress(self) -> str:
        """What runs the networks by now, and what is still being built, in words."""
        ...


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a loaded model.

    Attributes:
        name: for people.
        device, dtype: as text: ``cuda:0``, ``float16``; the number format is the one that its engines calculate in.
        acceleration: ``eager``, or the name of what speeds it up.
        default_size: the side in pixels at which the model is at its best.
        sees_input: it paints over an input picture, and cannot do without one.
        timesteps: those that it may be told.
        defaults: what it recommends for the settings of the stream, by name.
        unsupported: settings of the stream that have no effect on it, by name, each with the reason in one sentence.
    """

    name: str
    device: str
    dtype: str
    acceleration: str
    default_size: int
    sees_input: bool = False
    timesteps: range = range(1000)
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    unsupported: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine that is ready to run, the model in it, and what the user should know of how it was loaded.

    Attributes:
        stream: the settings that the engine was started with, where they are not those that were given.
        release: stops what the engine has going on beside; called when it is used no more.
        news: what has come up beside the engine since it was last asked, one sentence for the user each.
        problem: why a file that the settings name, such as a LoRA, cannot be used; the engine was started without any.
    """

    engine: Engine
    facts: ModelFacts
    notes: tuple[str, ...] = ()
    release: Callable[[], None] = lambda: None
    stream: StreamConfig | None = None
    news: Callable[[], Sequence[str]] = tuple
    problem: Exception | None = None


# Told of a download, if there is one.
Loader = Callable[[Settings, Progress], Loaded]


def load_engine(settings: Settings, progress: Progress | None = None) -> Loaded:
    """Load the model that the settings name and make a stream of it; takes seconds, and longer where it is fetched.

    Args:
        progress: told of a download; what it raises cancels it.

    Raises:
        pipeline.ModelError: it cannot be loaded; the message is one sentence for the user.
    """
    # Here and not above: to import torch takes seconds, which `vitrail --help` should not.
    from pipeline import ModelError, Stream, load_model
    from pipeline.backends import AccelerationError, accelerate

    try:
        model = load_model(
            settings.model,
            device=settings.device,
            dtype=settings.dtype,
            autoencoder=settings.autoencoder,
            progress=progress,
            memory=settings.memory,
        )
        backend = accelerate(model, settings.acceleration)
    except (ValueError, AccelerationError) as error:  # what is asked for is not to be had here
        raise ModelError(str(error)) from error
    facts = ModelFacts(
        name=model.name,
        device=str(model.device),
        dtype=backend.numbers,
        acceleration=backend.name,
        default_size=model.default_size,
        sees_input=model.sees_input,
        timesteps=model.schedule.timesteps,
        defaults=model.defaults,
        unsupported={name: f"{why[0].upper()}{why[1:]}." for name, why in model.unsupported.items()},
    )
    # With what the model recommends from the start: a solver that does not suit it might ask for files of its own.
    config = adapted(settings.stream, with_loras(model.defaults, settings.stream))
    problem = None
    try:
        stream = Stream(model, runnable(config, facts.timesteps), backend)
    except ModelError as error:
        # The model is there. What is to be added to it may be lost, or be made for another one.
        problem, config = error, without_files(config)
        stream = Stream(model, runnable(config, facts.timesteps), backend)
    notes = (*model.notes, *stream.notes, *remarks(None, config, facts.sees_input, facts.timesteps))
    return Loaded(stream, facts, notes, backend.close, config, stream.news, problem)


class ModelLoading(threading.Thread):
    """One model on its way in, on a thread of its own: the old one serves meanwhile, and a stop need not wait for it.

    Args:
        loader: makes an engine of settings.
        settings: which model, where, and how it starts.
        on_done: called on this thread when there is a result.

    Attributes:
        settings: as given.
        loaded: the engine, once the thread has ended without an error.
        error: what went wrong, once the thread has ended with one.
        fetched: bytes so far and in all (0: not known) of what had to be downloaded; None where nothing had to be.
    """

    def __init__(self, loader: Loader, settings: Settings, on_done: Callable[[], None]) -> None:
        # A daemon: reading weights cannot be interrupted, and must not keep the program from ending.
        super().__init__(name="vitrail-model", daemon=True)
        self._loader = loader
        self._on_done = on_done
        self._done = threading.Event()
        self._abandoned = False
        self._lock = threading.Lock()  # whether it is abandoned first, or there first
        self.settings = settings
        self.loaded: Loaded | None = None
        self.error: Exception | None = None
        self.fetched: tuple[int, int] | None = None
        self._cancelled = threading.Event()

    def run(self) -> None:
        try:
            self.loaded = self._loader(self.settings, self._follow)
        except Exception as error:  # noqa: BLE001 - kept for the worker, which reports it
            self.error = error
        with self._lock:
            self._done.set()
            abandoned = self._abandoned
        if abandoned:
            self._release()
        self._on_done()

    @property
    def done(self) -> bool:
        """Whether there is a result, good or bad."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Give up a download, which then ends with ``FetchCancelled``; what is on the disk is read to the end."""
        self._cancelled.set()

    def abandon(self) -> None:
        """Nobody will take what comes: give up a download, and release the engine once it is there."""
        self.cancel()
        with self._lock:
            self._abandoned = True
            done = self._done.is_set()
        if done:
            self._release()

    def _release(self) -> None:
        if self.loaded is not None:
            self.loaded.release()
            self.loaded = None

    def _follow(self, done: int, total: int) -> None:
        if self._cancelled.is_set():
            raise FetchCancelled(f"The download of {self.settings.model} was cancelled; what has arrived is kept.")
        self.fetched = done, total
