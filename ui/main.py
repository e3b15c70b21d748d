"""Open the window. Qt is imported only once it is known that it will not bring the process down."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from app.commands.terminal import say
from app.drawing import Drawing
from app.drawing_file import canvas_folder, kept_drawing
from app.prompt_history import PromptHistory, history_path, load_history
from app.qt_libraries import how_to_install, missing_libraries
from app.session import Session
from app.settings_owner import SettingsOwner
from app.signals import handled_by
from app.sinks import CallbackSink
from app.sources import Source, SourceError, open_source
from app.sources.canvas import CanvasSource
from app.standing import Values
from ui.choice import CANVAS, Choice
from ui.state import WindowState, load_state, state_path
from ui.view import first_choice, first_choices

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from ui.keeping import Keeper
    from ui.window import Window

logger = logging.getLogger(__name__)

DONE, MISUSED = 0, 2
# The session loads libraries that hold up the whole process for a while: the window is painted before.
PAINTED_MS = 50

_open: set[Window] = set()  # nothing else holds on to a window that took the place of another


def run(chosen: Values | None = None, source_spec: str | None = None, notes: Sequence[str] = ()) -> int:
    """Show the window until it is closed.

    Args:
        chosen: what the person chose the last time, by name of the setting.
        source_spec: as ``open_source`` takes it; by default the first camera, else the sample clip.
        notes: sentences to show in the window at first.

    Returns:
        The exit code: 0, or 2 where the source is unknown or Qt lacks a library of the system.
    """
    missing = missing_libraries()
    if missing:
        names = ", ".join(library.name for library in missing)
        return _refuse(f"the window needs {names}; {how_to_install(missing)}")
    state = load_state(state_path())
    choice = first_choice(source_spec, state.source)
    try:
        source = open_source(choice.spec, live=True)
    except SourceError as error:
        return _refuse(str(error))
    try:
        from PySide6.QtWidgets import QApplication

        from ui.icons import application_icon
    except ImportError as error:
        return _refuse(f"the window cannot be loaded ({error}); try: vitrail doctor")
    application = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(application, QApplication)
    application.setApplicationName("Vitrail")
    application.setDesktopFileName("vitrail")  # by which Wayland and task bars know whose window it is
    application.setWindowIcon(application_icon())
    owner = SettingsOwner(first_choices(chosen or {}))
    window = open_window(choice, source, owner, state, load_history(history_path()))
    if notes:
        window.toast.tell(" ".join(notes), "warning")
    return _until_closed(application)


def open_window(
    choice: Choice,
    source: Source,
    owner: SettingsOwner,
    state: WindowState | None = None,
    prompts: PromptHistory | None = None,
    drawing: Drawing | None = None,
) -> Window:
    """Show a window on a session, which starts once the window is there, and ends with it.

    Args:
        choice: what ``source`` is called.
        source: where the pictures come from.
        owner: of the settings, with what the person chose in it.
        state: how the window looked the last time.
        prompts: of the past.
        drawing: on the canvas; by default that of the last time.
    """
    from PySide6.QtCore import QTimer

    from ui.bridge import Bridge
    from ui.keeping import Keeper
    from ui.window import Window

    bridge, keeper = Bridge(), Keeper()
    session = Session(source, owner, [CallbackSink(bridge.put)], listener=bridge.tell, preview=bridge.preview)
    drawing = drawing or _drawing_for(choice, source)
    on_close = partial(_close, keeper=keeper)
    window = Window(session, bridge, choice, source, state=state, prompts=prompts, drawing=drawing, on_close=on_close)
    keeper.follow(window)
    window.restart_asked.connect(partial(_start_again, window))
    window.show()
    QTimer.singleShot(PAINTED_MS, partial(_start, session))
    return window


def _drawing_for(choice: Choice, source: Source) -> Drawing | None:
    """The drawing of the last time. A source that is the canvas shows it too, at the size that it was asked for."""
    drawing = kept_drawing(canvas_folder())
    if drawing is not None and isinstance(source, CanvasSource):
        if choice.spec != CANVAS and drawing.size != source.drawing.size:
            drawing.resize(*source.drawing.size)
        source.drawing = drawing
    return drawing


def _start(session: Session) -> None:
    if not session.state.final:  # the window was closed at once
        session.start()


def _start_again(old: Window, chosen: Values) -> None:
    """Another window in the place of one whose session has failed, with the choices and the prompts of the old one."""
    choice = old.switch.choice
    try:
        source = open_source(choice.spec, live=True)
    except SourceError:
        choice = first_choice(None)
        source = open_source(choice.spec, live=True)
    # Before the other closes: the last one ends the program.
    new = open_window(choice, source, SettingsOwner(chosen), old.state(), old.prompts, old.switch.drawing)
    _open.add(new)
    old.close()
    old.deleteLater()


def _until_closed(application: QApplication) -> int:
    from PySide6.QtCore import QTimer

    # Ctrl-C in the terminal closes the window; its timer lets Python notice within half a second. So do the signals of
    # a system that shuts down: what is kept is kept then, and a recording is finished. The windows are closed by the
    # event loop: Python may notice a signal in the middle of painting one.
    def close_soon(*_: object) -> None:
        QTimer.singleShot(0, application.closeAllWindows)

    hook, sys.excepthook = sys.excepthook, partial(_tell_unforeseen, application)
    try:
        with handled_by(close_soon):
            return application.exec()
    finally:
        sys.excepthook = hook


def _tell_unforeseen(
    application: QApplication, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What went wrong in answer to a click ends that answer only: the log has it, and the window says so."""
    from ui.window import Window

    logger.critical("unforeseen", exc_info=(kind, error, trace))
    for window in application.topLevelWidgets():
        if isinstance(window, Window):
            window.toast.tell(f"Something unforeseen happened ({kind.__name__}: {error}); the log says more.", "error")


def _close(window: Window, keeper: Keeper) -> None:
    _open.discard(window)
    keeper.finish(window)


def _refuse(message: str) -> int:
    say(message)
    return MISUSED
