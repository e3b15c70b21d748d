"""Between the model's pictures and the sinks: steadiness first, then reprojection, on one measurement of the motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from app.frame import Frame
from app.messages import Captured, Styled
from app.opacity import parted
from app.reprojection.reprojector import Picture, Reprojector
from app.reprojection.track import Track
from app.steadiness import Steadier

if TYPE_CHECKING:
    import torch


class Composer:
    """Makes the frames that are shown. Each setting is that of the frame or picture in hand; for the display thread."""

    def __init__(self) -> None:
        track = Track()
        self._reprojector = Reprojector(track)
        self._steadier = Steadier(track)
        self._number = -1  # of the model's last pictures
        self._made: list[np.ndarray] = []  # these, made steady
        self._of: Styled | None = None  # what the last picture came with
        self._hint: torch.Tensor | None = None  # of the last picture
        self._epoch = 0

    def seen(self, captured: Captured, overtaken: Callable[[], bool]) -> Frame | None:
        """A live frame has just been captured: the last picture carried to it, or None to leave the screen as it is.

        Args:
            captured: the frame, with its settings.
            overtaken: True says that a picture of the model has come in, which goes first.
        """
        self._follow(captured.epoch)
        picture = self._reprojector.seen(captured.frame, captured.settings.reprojection, overtaken)
        return None if picture is None else self._framed(picture, reprojected=True)

    def styled(self, pixels: np.ndarray, captured: Frame, styled: Styled) -> Frame | None:
        """A picture of the model: as it is to be shown, or None where the next of its group takes its place at once.

        Args:
            pixels: (H, W, 3) uint8, or (H, W, 4) with its opacity, which goes where its colours go.
            captured: the frame that it was made for, one of ``styled.frames``.
            styled: the group that it came with.
        """
        self._follow(styled.epoch)
        mode = styled.settings.reprojection if styled.live else "off"
        if styled.number != self._number:
            self._number, self._made = styled.number, []
        place = styled.frames.index(captured)
        again = place < len(self._made)
        if not again:
            self._made.append(self._steadier(pixels, captured, styled.settings))
        pixels = self._made[place]  # the very same picture again has nothing to be mixed with
        if captured is not styled.frames[-1] and self._reprojector.ahead_of(captured, mode):
            return None
        self._of = styled
        self._hint = None if styled.hints is None else styled.hints[place]
        return self._framed(self._reprojector.styled(pixels, captured, mode, same=again))

    def _follow(self, epoch: int) -> None:
        """Forget the source before: nothing of it goes on in the pictures of another."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._reprojector.reset()
            self._steadier.reset()

    def _framed(self, picture: Picture, *, reprojected: bool = False) -> Frame:
        """The picture as a frame; one that is carried along was made as the last one of the model was."""
        frame, made = picture.frame, self._of
        pixels, alpha = parted(picture.pixels)
        return Frame(
            frame.index,
            frame.captured_at,
            pixels,
            media_time=frame.media_time,
            original=frame,
            take=frame.take,
            reprojected=reprojected,
            settings=made.settings if made is not None else None,
            model=made.model if made is not None else "",
            hint=self._hint,
            alpha=alpha,
        )
