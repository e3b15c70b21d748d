"""What is kept of a window: settings, how it looked, prompts and the drawing, soon after each change and at the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from PySide6.QtCore import QObject, QTimer

from app.drawing_file import canvas_folder, keep_drawing
from app.prompt_history import PromptHistory, history_path, save_history
from app.settings import default_path
from app.settings_file import save
from ui.state import save_state, state_path
from ui.window import Window

logger = logging.getLogger(__name__)

SOON_MS = 2000


class Keeper(QObject):
    """Writes what has changed, at most every two seconds, on a thread of its own: a crash loses no more than that.

    A file that cannot be written is logged, and tried again with the next change.
    """

    def __init__(self, soon_ms: int = SOON_MS) -> None:
        super().__init__()
        self._window: Window | None = None
        self._drawn: int | None = None  # the revision of the drawing that is kept
        self._writer: threading.Thread | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(soon_ms)
        self._timer.timeout.connect(self._keep_beside)

    def follow(self, window: Window) -> None:
        """Keep what is changed in this window from now on."""
        self._window = window
        for changed in (window.editor.changed, window.switch.changed, window.canvas.paper.painted):
            changed.connect(self._soon)

    def finish(self, window: Window) -> None:
        """The window is closed: keep all of it, and wait for that."""
        self._timer.stop()
        if self._writer is not None:
            self._writer.join()
        for write in self._to_write(window):
            write()
        self._window = None

    def _soon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _keep_beside(self) -> None:
        if self._window is None:
            return
        if self._writer is not None and self._writer.is_alive():  # a slow disk
            self._timer.start()
            return
        writes = self._to_write(self._window)
        # A daemon: a disk that does not answer must not keep the program from ending.
        self._writer = threading.Thread(
            target=lambda: [write() for write in writes], name="vitrail-keeper", daemon=True
        )
        self._writer.start()

    def _to_write(self, window: Window) -> list[Callable[[], None]]:
        """What writes each file, with all that it takes from the window in it."""
        chosen, state = window.session.owner.standing.chosen, window.state()
        prompts, drawing = PromptHistory(window.prompts.prompts), window.switch.drawing
        writes = [
            _logged("settings", lambda: save(chosen, default_path())),
            _logged("look of the window", lambda: save_state(state, state_path())),
            _logged("prompts", lambda: save_history(prompts, history_path())),
        ]
        if drawing.revision != self._drawn:
            self._drawn = drawing.revision
            writes.append(_logged("drawing", lambda: keep_drawing(drawing, canvas_folder())))
        return writes


def _logged(what: str, write: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        try:
            write()
        except OSError as error:
            logger.warning("the %s could not be kept: %s", what, error)

    return act
