"""What the app records into: a new video file, written beside the live picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.files import names, recordings_folder
from app.frame import Frame
from app.sinks.background import BackgroundSink
from app.sinks.base import SinkError
from app.sinks.takes import Takes
from app.sinks.video import VideoSink
from pipeline.user_path import is_there


class Recorder(BackgroundSink):
    """A recording in ``folder``, under a name that no file has; the picture never waits for it.

    The file is playable at any moment, so nothing is lost with a crash but the last half second.

    Args:
        folder: made where it is missing; the user's folder for videos by default.
        nominal_fps: asked at the first frame for the rate that the file's header is to name.
        quality: constant rate factor, 0 (lossless) to 51.
        transparent: the pictures can be seen through: a .mov, which carries that, and not the usual .mp4.

    Attributes:
        path: the file; it is there from the first frame on.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        nominal_fps: Callable[[], float | None] = lambda: None,
        quality: int = 18,
        transparent: bool = False,
    ) -> None:
        self._folder = folder if folder is not None else recordings_folder()
        self.path = next(path for path in names(self._folder, ".mov" if transparent else ".mp4") if not is_there(path))
        self._video = VideoSink(self.path, nominal_fps=nominal_fps, quality=quality)
        self._takes = Takes()
        super().__init__(self._video)

    @property
    def seconds(self) -> float:
        """How long the recording is so far."""
        return self._video.seconds

    @property
    def lost(self) -> str | None:
        """One sentence on what the file lacks, if anything (see ``VideoSink``)."""
        return self._video.lost

    def open(self) -> None:
        """Make the folder and start. Raises ``SinkError`` where nothing can be written there."""
        make_folder(self._folder)
        self._takes = Takes()
        super().open()

    def write(self, frame: Frame) -> None:
        """As ``BackgroundSink``; the time of a pause is left out."""
        super().write(self._takes.joined(frame))


def make_folder(folder: Path) -> None:
    """Have ``folder``. Raises ``SinkError`` with one sentence where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SinkError(f"{folder} is not a folder; choose another place.") from error
    except OSError as error:
        raise SinkError(f"The folder {folder} cannot be made: {error.strerror}; choose another place.") from error
