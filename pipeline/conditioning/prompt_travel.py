"""From one mixture of prompts, or of pictures, to the next: at once, or in a transition timed by the frames.

Cross-attention's keys and values are linear in the prompt's embedding, so a mixture of embeddings is the same mixture
of keys and values: while a transition runs, a frame costs one weighted sum a layer, and no text encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pipeline.conditioning.embedding import Embedding, mixed

# A frame that comes without a time is taken to follow the last one by this.
FRAME_SECONDS = 1 / 30

Source = TypeVar("Source")


class Travel(Generic[Source]):
    """Which sources are read at a moment, and with what weights.

    Args:
        mix: makes one source of several and their weights.

    Attributes:
        sources: P of them.
        weights: P numbers that sum to 1; changed by ``advance``.
    """

    def __init__(self, mix: Callable[[Sequence[Source], Sequence[float]], Source]) -> None:
        self._mix = mix
        self.sources: tuple[Source, ...] = ()
        self.weights: tuple[float, ...] = ()
        self._target: tuple[float, ...] = ()
        self._destination: tuple[tuple[Source, ...], tuple[float, ...]] = ((), ())  # as ``head_for`` was told
        self._seconds = self._elapsed = 0.0
        self._now: float | None = None

    @property
    def moving(self) -> bool:
        """Whether a transition runs."""
        return self.weights != self._target

    def head_for(self, target: Sequence[tuple[Source, float]], seconds: float) -> None:
        """Turn to another mixture, over ``seconds`` of the frames' own time; before the first frame at once.

        Nothing ever jumps: a transition that interrupts another starts from the mixture reached so far. Asking again
        for the mixture that a transition leads to changes nothing.
        """
        sources = tuple(source for source, _ in target)
        weights = tuple(weight for _, weight in target)
        if (sources, weights) == self._destination:
            return
        self._destination = sources, weights
        if seconds > 0 and self._now is not None and self.sources:
            self.sources = (self._mix(self.sources, self.weights), *sources)
            self.weights = (1.0, *(0.0 for _ in weights))
            self._target = (0.0, *weights)
        else:
            if sources != self.sources:
                self.sources = sources
            self.weights = self._target = weights
        self._seconds, self._elapsed = seconds, 0.0

    def advance(self, at: float | None = None, frames: int = 1) -> bool:
        """The next ``frames`` frames are here, the last of them taken at ``at`` seconds of any steady clock.

        A clock that steps back, as that of another source may, holds the transition for that one frame.

        Returns:
            Whether the weights have changed.
        """
        before = self._now
        self._now = (before or 0.0) + frames * FRAME_SECONDS if at is None else at
        if not self.moving:
            return False
        self._elapsed += max(0.0, self._now - before) if before is not None else 0.0
        done = min(1.0, self._elapsed / self._seconds)
        if done == 1:  # exact, without a rounding error, and what was left behind is not kept
            self.sources, self._target = self.sources[1:], self._target[1:]
            self.weights = self._target
        else:
            self.weights = (1 - done, *(done * weight for weight in self._target[1:]))
        return True


class PromptTravel(Travel[Embedding]):
    """The travel from one mixture of prompts to the next."""

    def __init__(self) -> None:
        super().__init__(mixed)
