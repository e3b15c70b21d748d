"""The window: the live picture, the words under it, the controls beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QByteArray, Qt, QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QApplication, QGridLayout, QHBoxLayout, QMainWindow, QVBoxLayout, QWidget

from app.session import Session
from app.settings import Settings
from app.status import Notice, SessionState, Status
from app.styles import styles_of
from ui import theme
from ui.actions import Actions
from ui.banner import Card, Toast
from ui.bridge import Bridge
from ui.editor import Editor
from ui.layout import Mode, Zoom
from ui.numbers import Numbers, Strip
from ui.panel import Panel
from ui.prompt_bar import PromptBar
from ui.side import Side
from ui.state import WindowState
from ui.theme import Appearance
from ui.toolbar import Toolbar
from ui.view import banner
from ui.viewer import Viewer

logger = logging.getLogger(__name__)

_REFRESH_MS = 500
_APPEARANCES = {appearance.value: appearance for appearance in Appearance}


class Window(QMainWindow):
    """Shows a session and edits its settings.

    Args:
        session: started by the caller, with ``bridge`` as a sink and listener; stopped when the window closes.
        bridge: brings the pictures.
        state: how the window looked the last time.
        on_close: called with the settings and the look at the end.
    """

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        state: WindowState | None = None,
        on_close: Callable[[Settings, WindowState], None] = lambda *_: None,
    ) -> None:
        super().__init__()
        self._session = session
        self._bridge = bridge
        self._state = state or WindowState()
        _dress_application(_APPEARANCES.get(self._state.theme, Appearance.DARK))  # before any widget asks for its font
        self._on_close = on_close
        self._closed = False
        self._styles_shown_for: str | None = None
        self.editor = Editor(session)
        self.commands = Actions(self)
        self.viewer = Viewer()
        self.banner = Card(self.viewer, "banner", Qt.AlignmentFlag.AlignTop)
        self.toast = Toast(self.viewer)
        self.toolbar = Toolbar(self.commands)
        self.prompt_bar = PromptBar(self.editor)
        self.strip = Strip()
        self.panel = Panel(self.editor)
        self.numbers = Numbers()
        self.side = Side(self.panel, self.numbers, self.commands)
        self._arrange()
        self._connect()
        self._restore()
        self._refresh()

    # -- the end ------------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._closed:
            self._closed = True
            self._timer.stop()
            self.prompt_bar.settle()
            self._bridge.detach(self.viewer.presenter)
            self._session.stop()
            self._on_close(self._session.settings, self.state())
        event.accept()

    def state(self) -> WindowState:
        """How the window looks now."""
        return replace(
            self._state,
            geometry=bytes(self.saveGeometry().toBase64().data()).decode("ascii"),
            theme=theme.current().appearance.value,
            mode=self.viewer.mode.value,
            panel=not self.side.isHidden(),
            on_top=self.commands["on_top"].isChecked(),
        )

    # -- putting together ---------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        self.setWindowTitle("Vitrail")
        self.setAcceptDrops(True)
        foot = QVBoxLayout()
        foot.setContentsMargins(0, 0, 0, 0)
        self.prompt_bar.rows.addWidget(self.strip)
        left = QVBoxLayout()
        left.setContentsMargins(0, 0, 0, 0)
        left.setSpacing(0)
        stage = QWidget()
        stage.setObjectName("stage")
        inner = QGridLayout(stage)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.viewer)
        left.addWidget(stage, 1)
        left.addWidget(self.prompt_bar)
        middle = QHBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addLayout(left, 1)
        middle.addWidget(self.side)
        central = QWidget()
        central.setObjectName("ground")
        column = QVBoxLayout(central)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.toolbar)
        column.addLayout(middle, 1)
        self.setCentralWidget(central)

    def _connect(self) -> None:
        self._bridge.attach(self.viewer.presenter)
        self._bridge.pictured.connect(self._show_picture)
        self._bridge.told.connect(self._show_message)
        self.editor.changed.connect(lambda _: self._show_history())
        self.editor.refused.connect(lambda _, reason: self.toast.tell(reason, "warning"))
        self.toolbar.mode_chosen.connect(self.show_mode)
        self.viewer.full_screen_asked.connect(self.commands["full_screen"].trigger)
        for name, act in self._what_to_do().items():
            self.commands.connect(name, act)
        self._timer = QTimer(self)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        self._timer.start()

    def _what_to_do(self) -> dict[str, Callable[[], object]]:
        return {
            "prompt": self._go_to_prompt,
            "undo": self.editor.undo,
            "redo": self.editor.redo,
            "shuffle": self.panel.shuffle_seed,
            "zoom": self._follow_zoom,
            "full_screen": self._follow_full_screen,
            "on_top": self._follow_on_top,
            "panel": lambda: self.side.setVisible(self.commands["panel"].isChecked()),
            "theme": self._other_theme,
            "quit": self.close,
        }

    def _restore(self) -> None:
        state = self._state
        self.resize(1280, 800)
        if state.geometry:
            self.restoreGeometry(QByteArray.fromBase64(state.geometry.encode("ascii", "replace")))
        modes = {mode.value: mode for mode in Mode}
        self.show_mode(modes.get(state.mode, Mode.OUTPUT))
        self.commands["panel"].setChecked(state.panel)
        self.side.setVisible(state.panel)
        if state.on_top:
            self.commands["on_top"].trigger()
        self._show_history()

    # -- what the user asks for ---------------------------------------------------------------------------------------

    def show_mode(self, mode: Mode) -> None:
        """Output, input, side by side, or before and after."""
        self.viewer.mode = mode
        self.toolbar.show_mode(mode)
        if mode is Mode.SPLIT:
            self.viewer.setFocus()

    def show_theme(self, appearance: Appearance) -> None:
        """Dark or light, at once and everywhere."""
        _dress_application(appearance)
        for part in (self.commands, self.toolbar, self.prompt_bar, self.panel, self.side, self.banner, self.toast):
            part.dress()
        self.viewer.update()

    def _other_theme(self) -> None:
        dark = theme.current().appearance is Appearance.DARK
        self.show_theme(Appearance.LIGHT if dark else Appearance.DARK)

    def _go_to_prompt(self) -> None:
        self.prompt_bar.prompt.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.prompt_bar.prompt.selectAll()

    def _follow_zoom(self) -> None:
        self.viewer.zoom = Zoom.ACTUAL if self.commands["zoom"].isChecked() else Zoom.FIT

    def _follow_full_screen(self) -> None:
        on = self.commands["full_screen"].isChecked()
        self.toolbar.setVisible(not on)
        self.prompt_bar.setVisible(not on)
        self.side.setVisible(not on and self.commands["panel"].isChecked())
        self.setWindowState(self.windowState() ^ Qt.WindowState.WindowFullScreen)

    def _follow_on_top(self) -> None:
        shown = self.isVisible()
        self.setWindowFlag(Qt.WindowType.WindowStaysOnTopHint, self.commands["on_top"].isChecked())
        if shown:
            self.show()  # Qt hides a window whose flags change

    # -- what the session says ----------------------------------------------------------------------------------------

    def _show_picture(self) -> None:
        if self._bridge.take() is not None:
            self.viewer.refresh()

    def _show_message(self, what: Status | Notice) -> None:
        if isinstance(what, Notice):
            self.toast.tell(what.message, "warning" if what.error else "info")
        self._refresh()

    def _show_history(self) -> None:
        for name, label in (("undo", self.editor.history.undo_label), ("redo", self.editor.history.redo_label)):
            action = self.commands[name]
            action.setEnabled(label is not None)
            action.setToolTip(f"{name.capitalize()} {label}" if label else name.capitalize())

    def _refresh(self) -> None:
        # The state of now, not of the message: a message that waited in Qt's queue may be out of date.
        status = self._session.status
        failed = status.state in (SessionState.FAILED, SessionState.STALLED)
        waits = status.state in (SessionState.STARTING, SessionState.LOADING)
        self.banner.say(banner(status), "error" if failed else "working" if waits else "info")
        model = self._session.model
        self.side.show_model(model)
        self.strip.show_counts(self._session.metrics(), model)
        wanted = self._session.settings.model
        if wanted != self._styles_shown_for:
            self._styles_shown_for = wanted
            self.prompt_bar.show_styles(styles_of(wanted))


def _dress_application(appearance: Appearance) -> None:
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    theme.apply(application, appearance)
