"""The window: the live picture, the words under it, the controls beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtCore import QByteArray, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent
from PySide6.QtWidgets import QApplication, QHBoxLayout, QMainWindow, QSplitter, QVBoxLayout, QWidget

from app.drawing import Drawing
from app.hints import hint, origin_of
from app.prompt_history import PromptHistory
from app.series import Series
from app.session import Session
from app.sources import Source
from app.standing import MODEL_SETTINGS
from app.status import Notice, Status
from app.styles import styles_of
from ui import theme
from ui.actions import Actions
from ui.banner import Card, Toast
from ui.bridge import Bridge
from ui.canvas import CanvasPane
from ui.choice import CANVAS, Choice
from ui.dialogs import Dialogs, canvas_choice
from ui.drops import Drops
from ui.editor import Editor
from ui.layout import Mode, Zoom
from ui.numbers import Numbers, Strip
from ui.panel import Panel
from ui.presets import Presets
from ui.prompt_bar import PromptBar
from ui.references import References
from ui.saved import saved_acts
from ui.seek_bar import SeekBar
from ui.side import Side
from ui.sinks import Sinks
from ui.sources import SourceSwitch, watched
from ui.state import WindowState
from ui.theme import Appearance
from ui.toolbar import Toolbar
from ui.view import Message, remembered, said_of
from ui.viewer import Viewer

REFRESH_MS = 500
PAPER_MS = 33
# A prompt that was left alone for so long was meant, and is worth keeping.
MEANT_MS = 4000
_APPEARANCES = {appearance.value: appearance for appearance in Appearance}


class Window(QMainWindow):
    """Shows a session and edits its settings.

    Args:
        session: started by the caller, with ``bridge`` as a sink and listener; stopped when the window closes.
        bridge: brings the pictures.
        choice: the source that the session runs on, and
        source: the object itself, where the caller has it.
        state: how the window looked the last time.
        prompts: of the past.
        drawing: on the canvas; an empty one by default.
        on_close: called with the window, once the session has stopped.

    Signals:
        restart_asked: the session is over, and the user wants another one with these choices.
    """

    restart_asked = Signal(object)

    def __init__(
        self,
        session: Session,
        bridge: Bridge,
        choice: Choice,
        source: Source | None = None,
        *,
        state: WindowState | None = None,
        prompts: PromptHistory | None = None,
        drawing: Drawing | None = None,
        on_close: Callable[[Window], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.session = session
        self.prompts = prompts or PromptHistory()
        self._bridge = bridge
        self._state = state or WindowState()
        _dress_application(_APPEARANCES.get(self._state.theme, Appearance.DARK))  # before any widget asks for its font
        self._on_close = on_close
        self._closed = False
        self._styles_shown_for: str | None = None
        self._opened_at = time.monotonic()
        self._start_seconds = 0.0  # until the first picture, once it is there
        self._downloads = False  # a model was fetched, which says nothing of the next start
        self._series = Series()
        self.editor = Editor(session)
        self.commands = Actions(self)
        self.switch = SourceSwitch(session, choice, source, drawing)
        self.sinks = Sinks(session, lambda: self.switch.fps, lambda: self.viewer.frame)
        self.presets = Presets(self.editor, self)
        self.dialogs = Dialogs(self, session, self.editor, self.switch, bridge)
        self.references = References(session, self.editor, lambda: self.viewer.frame, self)
        self.drops = Drops(self, self.presets, self.switch, self.dialogs, self.references)
        self.viewer = Viewer()
        self.banner = Card(self.viewer, "banner", Qt.AlignmentFlag.AlignTop)
        self.toast = Toast(self.viewer)
        self.toolbar = Toolbar(self.commands)
        self.seek_bar = SeekBar()
        self.canvas = CanvasPane(self.switch.drawing)
        self.panel = Panel(self.editor)
        self.prompt_bar = PromptBar(self.editor, self.panel.beside_prompt)
        self.strip = Strip()
        self.numbers = Numbers()
        self.side = Side(self.panel, self.numbers, self.commands)
        self._arrange()
        self._connect()
        self._restore()
        self._show_source()
        self._refresh()

    # -- the end ------------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._closed:
            self._closed = True
            self._timer.stop()
            self._paper_timer.stop()
            self.prompt_bar.settle()
            self._keep_prompt()
            self.dialogs.close()
            self.sinks.close()
            self._bridge.detach(self.viewer.presenter)
            self.editor.close()
            self.session.stop()
            self._on_close(self)
        event.accept()

    def state(self) -> WindowState:
        """How the window looks now."""
        folds = self.panel.folds()
        known = bool(self._start_seconds) and not self._downloads
        return replace(
            self._state,
            geometry=bytes(self.saveGeometry().toBase64().data()).decode("ascii"),
            theme=theme.current().appearance.value,
            mode=self.viewer.mode.value,
            panel=self.commands["panel"].isChecked(),
            on_top=self.commands["on_top"].isChecked(),
            source=remembered(self.switch.choice),
            page=self.side.pages.currentIndex(),
            seed_held=self.panel.hold.isChecked(),
            start_seconds=self._start_seconds if known else self._state.start_seconds,
            folded=tuple(title for title, is_open in folds.items() if not is_open),
            unfolded=tuple(title for title, is_open in folds.items() if is_open),
        )

    # -- putting together ---------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        self.setWindowTitle("Vitrail")
        self.setAcceptDrops(True)
        self.prompt_bar.rows.addWidget(self.strip)
        self.stage = QSplitter(Qt.Orientation.Horizontal)
        self.stage.setChildrenCollapsible(False)
        self.stage.addWidget(self.canvas)
        self.stage.addWidget(self.viewer)
        self.canvas.hide()
        left = QVBoxLayout()
        left.setSpacing(0)
        left.addWidget(self.stage, 1)
        left.addWidget(self.seek_bar)
        left.addWidget(self.prompt_bar)
        middle = QHBoxLayout()
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
        self._bridge.attach(self.viewer.presenter, previews=True)
        self._bridge.pictured.connect(self._show_picture)
        self._bridge.told.connect(self._show_message)
        self.editor.changed.connect(self._follow_settings)
        self.editor.refused.connect(lambda _, reason: self.toast.tell(reason, "warning"))
        self.switch.changed.connect(self._show_source)
        self.sinks.changed.connect(self._show_sinks)
        self.sinks.told.connect(lambda text, kind, path: self.toast.tell(text, kind, saved_acts(path)))
        for telling in (self.presets, self.references):
            telling.told.connect(self.toast.tell)
        for failing in (self.switch.failed, self.dialogs.failed):
            failing.connect(lambda text: self.toast.tell(text, "error"))
        self.dialogs.taken.connect(self.toast.tell)
        self.dialogs.feed_changed.connect(self.commands["clean_feed"].setChecked)
        self.prompt_bar.model_asked.connect(self.dialogs.open_models)
        self.canvas.laying_asked.connect(self.dialogs.import_picture)
        self.canvas.opening_asked.connect(self.dialogs.open_drawing)
        self.canvas.saving_asked.connect(self.dialogs.save_drawing)
        self.toolbar.mode_chosen.connect(self.show_mode)
        self.viewer.full_screen_asked.connect(self.commands["full_screen"].trigger)
        for name, act in self._what_to_do().items():
            self.commands.connect(name, act)
        self._timer = _timer(self, REFRESH_MS, self._refresh)
        self._paper_timer = _timer(self, PAPER_MS, self.canvas.paper.refresh)
        self._meant = _timer(self, MEANT_MS, self._keep_prompt)
        self._meant.setSingleShot(True)
        self._timer.start()

    def _what_to_do(self) -> dict[str, Callable[[], object]]:
        def checked(name: str, act: Callable[[bool], object]) -> Callable[[], object]:
            return lambda: act(self.commands[name].isChecked())

        return {
            "prompt": self._go_to_prompt,
            "undo": self._undo,
            "redo": self._redo,
            "shuffle": self.panel.shuffle_seed,
            "presets": self._open_presets,
            "look_now": self.references.look_like_now,
            "source": self.dialogs.open_source,
            "pause": checked("pause", self.switch.pause),
            "canvas": lambda: self.switch.choose(canvas_choice()),
            "model": self.dialogs.open_models,
            "snapshot": self.sinks.snapshot,
            "record": checked("record", self.sinks.record),
            "virtual_camera": checked("virtual_camera", self.sinks.stream),
            "zoom": checked("zoom", lambda on: setattr(self.viewer, "zoom", Zoom.ACTUAL if on else Zoom.FIT)),
            "full_screen": checked("full_screen", self.show_full_screen),
            "clean_feed": checked("clean_feed", self.dialogs.show_feed),
            "on_top": checked("on_top", self.stay_on_top),
            "panel": checked("panel", self.side.setVisible),
            "theme": lambda: self.show_theme(theme.current().appearance.other),
            "shortcuts": self.dialogs.open_shortcuts,
            "quit": self.close,
        }

    def _restore(self) -> None:
        state = self._state
        room = self.screen().availableGeometry()
        self.resize(min(1280, room.width()), min(800, room.height()))
        if state.geometry:
            self.restoreGeometry(QByteArray.fromBase64(state.geometry.encode("ascii", "replace")))
        modes = {mode.value: mode for mode in Mode}
        self.show_mode(modes.get(state.mode, Mode.OUTPUT))
        self.commands["panel"].setChecked(state.panel)
        self.side.setVisible(state.panel)
        self.side.show_page(min(max(0, state.page), self.side.pages.count() - 1))
        self.panel.hold.setChecked(state.seed_held)
        if state.on_top:
            self.commands["on_top"].trigger()
        for titles, is_open in ((state.folded, False), (state.unfolded, True)):
            for title in titles:
                self.panel.fold(title, is_open)
        self.prompt_bar.show_recent(self.prompts.prompts)
        self._follow_settings()

    # -- what the user asks for ---------------------------------------------------------------------------------------

    def show_mode(self, mode: Mode) -> None:
        """Output, input, side by side, before and after, or hint."""
        self.viewer.mode = mode
        self.toolbar.show_mode(mode)
        if mode is Mode.SPLIT:
            self.viewer.setFocus()

    def show_theme(self, appearance: Appearance) -> None:
        """Dark or light, at once and everywhere."""
        _dress_application(appearance)
        dressed = (self.commands, self.toolbar, self.prompt_bar, self.panel, self.side, self.banner, self.toast)
        for part in (*dressed, self.seek_bar, self.canvas):
            part.dress()
        self._show_source()
        self.viewer.update()

    def show_full_screen(self, on: bool) -> None:
        """The picture and nothing else."""
        for part in (self.toolbar, self.prompt_bar):
            part.setVisible(not on)
        self.side.setVisible(not on and self.commands["panel"].isChecked())
        self.seek_bar.follow(None if on else self.switch.video)
        self.viewer.pointer_hides = on
        state = self.windowState()
        full = Qt.WindowState.WindowFullScreen
        self.setWindowState(state | full if on else state & ~full)

    def stay_on_top(self, on: bool) -> None:
        """In front of other windows, or not."""
        shown = self.isVisible()
        self.setWindowFlag(Qt.WindowType.WindowStaysOnTopHint, on)
        if shown:
            self.show()  # Qt hides a window whose flags change

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.commands["full_screen"].isChecked():
            self.commands["full_screen"].trigger()
        else:
            super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        self.drops.take([url.toLocalFile() for url in event.mimeData().urls()], event.position().toPoint())
        event.acceptProposedAction()

    def _go_to_prompt(self) -> None:
        self.prompt_bar.prompt.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.prompt_bar.prompt.selectAll()

    def _undo(self) -> None:
        self.prompt_bar.settle()
        self.editor.undo()

    def _redo(self) -> None:
        self.prompt_bar.settle()
        self.editor.redo()

    def _open_presets(self) -> None:
        menu = self.presets.menu()
        menu.aboutToHide.connect(menu.deleteLater)
        button = self.side.presets
        menu.popup(button.mapToGlobal(button.rect().topLeft()) - menu.rect().bottomLeft())

    def _restart(self) -> None:
        # Whatever ended the session may lie in the model; the one inside always loads.
        chosen = self.editor.standing.chosen
        self.restart_asked.emit({name: value for name, value in chosen.items() if name not in MODEL_SETTINGS})

    # -- what the session says ----------------------------------------------------------------------------------------

    def _show_picture(self) -> None:
        if self._bridge.take() is not None:
            self.viewer.refresh()
            if not self._start_seconds and self.viewer.frame is not None:
                self._start_seconds = time.monotonic() - self._opened_at
            if self.dialogs.feed is not None:
                self.dialogs.feed.viewer.refresh()

    def _show_message(self, what: Status | Notice) -> None:
        if isinstance(what, Notice):
            self.toast.tell(what.message, "warning" if what.error else "info")
        self._refresh()

    def _follow_settings(self) -> None:
        for name, label in (("undo", self.editor.undo_label), ("redo", self.editor.redo_label)):
            action = self.commands[name]
            action.setEnabled(label is not None)
            action.setToolTip(f"{name.capitalize()} {label}" if label else name.capitalize())
        self._meant.start()

    def _keep_prompt(self) -> None:
        self.prompts.add(self.editor.settings.stream.prompt)
        self.prompt_bar.show_recent(self.prompts.prompts)

    def _show_source(self) -> None:
        choice, paused = self.switch.choice, self.switch.paused
        self.toolbar.source.show_source(choice.name, choice.icon)
        self.commands.show_paused(paused)
        painting = choice.kind == CANVAS
        self.canvas.setVisible(painting)
        if painting and not self._paper_timer.isActive():
            self.stage.setSizes([self.stage.width() // 2] * 2)
            self._paper_timer.start()
        elif not painting:
            self._paper_timer.stop()
        self._refresh()

    def _show_sinks(self) -> None:
        self.commands["record"].setChecked(self.sinks.recorder is not None)
        self.commands["virtual_camera"].setChecked(self.sinks.camera is not None)
        self.toolbar.show_recording(self.sinks.recording)

    def _refresh(self) -> None:
        # The state of now, not of the message: a message that waited in Qt's queue may be out of date.
        counts, model = self.session.metrics(), self.session.model
        self._downloads |= self.session.fetched is not None
        said = said_of(self.session, paused=self.switch.paused, seconds_left=self._seconds_left())
        self._show_banner(said)
        # The light tells the truth: on from the moment a device is being opened until its driver has let go of it.
        self.toolbar.show_watching(watched(self.session.open_sources))
        advice = (
            said.text
            or self.editor.standing.shortage()
            or hint(counts, self.session.settings, origin_of(self.switch.source), self.sinks.recent_drops())
        )
        if model is not None:  # before, there is nothing to measure, and torch is still on its way in
            self._series.add(counts)
        self.side.show_model(model)
        self.panel.show_model(model)
        self.strip.show_counts(counts, model, "" if said.text else advice)
        self.panel.show_counts(counts)
        if self.numbers.isVisible():
            self.numbers.show_counts(counts, model, self._series, advice)
        if not self.commands["full_screen"].isChecked():
            self.seek_bar.follow(self.switch.video)
        self.dialogs.look()
        self.sinks.look()
        self._show_sinks()
        wanted = self.session.settings.model
        if wanted != self._styles_shown_for:
            self._styles_shown_for = wanted
            self.prompt_bar.show_styles(styles_of(wanted))

    def _seconds_left(self) -> float | None:
        last = self._state.start_seconds
        return self._opened_at + last - time.monotonic() if last else None

    def _show_banner(self, said: Message) -> None:
        acts: dict[str, Callable[[], object]] = {
            "Choose a source": self.dialogs.open_source,
            "Start again": self._restart,
            "Cancel": self.session.cancel_loading,
            "Go on": self.commands["pause"].trigger,
        }
        self.banner.say(said.text, said.kind, buttons=[(said.button, acts[said.button])] if said.button else ())


def _timer(parent: Window, interval_ms: int, act: Callable[[], object]) -> QTimer:
    timer = QTimer(parent)
    timer.setInterval(interval_ms)
    timer.timeout.connect(act)
    return timer


def _dress_application(appearance: Appearance) -> None:
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    theme.apply(application, appearance)
