"""From one model to another while the picture goes on: which one serves, which is wanted, and the one on its way in."""

from __future__ import annotations

from collections.abc import Callable

from app.engine import Loader, ModelLoading
from app.fetching import FetchCancelled
from app.settings import Settings
from app.standing import model_of


class ModelSwap:
    """Loads what is wanted beside what serves, one model at a time.

    Used by the worker's thread, but for ``loading``, ``fetched``, ``serving`` and ``cancel``, which any thread may ask.

    However often the mind is changed meanwhile, there is never more than one model in memory beside the one that
    serves: what is wanted next waits until the one on its way is in, which is then given away unused.

    Args:
        loader: makes an engine of settings.
        on_done: called on the loading thread when there is a result.
    """

    def __init__(self, loader: Loader, on_done: Callable[[], None]) -> None:
        self._loader = loader
        self._on_done = on_done
        self._serving: Settings | None = None
        self._wanted: Settings | None = None
        self._loading: ModelLoading | None = None

    def want(self, settings: Settings) -> None:
        """Have the model of ``settings`` loaded, unless it serves, is on its way, or could not be loaded before."""
        if self._wanted is not None and self._same(settings, self._wanted):
            return
        self._wanted = settings
        if self._loading is not None:
            if not self._same(self._loading.settings, settings):
                self._loading.cancel()
        elif not self._serves(settings):
            self.load(settings)

    def load(self, settings: Settings) -> ModelLoading:
        """Load the model of ``settings`` now."""
        self._wanted = settings
        self._loading = ModelLoading(self._loader, settings, self._on_done)
        self._loading.start()
        return self._loading

    def arrived(self) -> ModelLoading | None:
        """What has come in since the last call, good or bad, once; None while there is nothing that is still wanted."""
        loading, wanted = self._loading, self._wanted
        if loading is None or wanted is None or not loading.done:
            return None
        self._loading = None
        # A download that was given up, and is wanted after all, goes on; unless nothing serves: then it was meant.
        given_up = isinstance(loading.error, FetchCancelled) and self._serving is not None
        if self._same(loading.settings, wanted) and not given_up:
            return loading
        loading.abandon()
        if not self._serves(wanted):
            self.load(wanted)
        return None

    @property
    def loading(self) -> bool:
        """Whether a model is on its way in."""
        loading = self._loading  # read once: the worker may set it to None at any time
        return loading is not None and not loading.done

    @property
    def fetched(self) -> tuple[int, int] | None:
        """Bytes so far and in all of the download of the one on its way in; None where there is none."""
        loading = self._loading
        return None if loading is None or loading.done else loading.fetched

    def cancel(self) -> None:
        """Give up a download that is under way. May be called from any thread."""
        loading = self._loading
        if loading is not None:
            loading.cancel()

    def close(self) -> None:
        """Nothing is wanted any more: what is on its way in is released when it is there."""
        if self._loading is not None:
            self._loading.abandon()

    @property
    def done(self) -> bool:
        """Whether something has come in, wanted or not."""
        return self._loading is not None and self._loading.done

    @property
    def serving(self) -> Settings | None:
        """The settings whose model serves."""
        return self._serving

    def serve(self, settings: Settings | None) -> None:
        """The model of ``settings`` serves from now on; None for none at all."""
        self._serving = settings

    def give_up(self, settings: Settings) -> None:
        """The model of ``settings`` cannot be had: do not try again until another one was wanted."""
        self._wanted = settings

    def _serves(self, settings: Settings) -> bool:
        return self._serving is not None and self._same(settings, self._serving)

    def _same(self, one: Settings, other: Settings) -> bool:
        return model_of(one) == model_of(other)
