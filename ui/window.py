"""The preview window: the live picture, the prompt, and the settings that are changed most."""

from __future__ import annotations

import logging
from collections.abc import Callable

from PySide6.QtCore import QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QLineEdit, QMainWindow, QVBoxLayout, QWidget

from app.session import Session
from app.settings import Settings
from app.status import Notice, Status
from pipeline.config import StreamConfig
from pipeline.setting import described
from ui.bridge import Bridge
from ui.view import banner, status_line, with_stream
from ui.widgets import Picture, SettingSlider

logger = logging.getLogger(__name__)

TYPING_PAUSE_MS = 250
_REFRESH_MS = 500
_NOTICE_MS = 10_000

_STYLE = """
QMainWindow, QWidget { background: #1c1c22; color: #e8e8ee; font-size: 14px; }
QLineEdit { background: #2a2a33; border: 1px solid #3c3c48; border-radius: 8px; padding: 9px 12px; font-size: 17px; }
QLineEdit:focus { border-color: #6ea8fe; }
QSlider::groove:horizontal { height: 4px; background: #3c3c48; border-radius: 2px; }
QSlider::sub-page:horizontal { background: #6ea8fe; border-radius: 2px; }
QSlider::handle:horizontal { width: 16px; margin: -6px 0; background: #e8e8ee; border-radius: 8px; }
QSlider::handle:horizontal:focus { background: #6ea8fe; }
QSlider::sub-page:horizontal:disabled, QSlider::handle:horizontal:disabled { background: #55555f; }
QLabel:disabled { color: #777782; }
QCheckBox { spacing: 8px; }
QCheckBox::indicator { width: 16px; height: 16px; border: 1px solid #5a5a68; border-radius: 4px; background: #2a2a33; }
QCheckBox::indicator:checked { background: #6ea8fe; border-color: #6ea8fe; }
QCheckBox::indicator:focus { border-color: #e8e8ee; }
QStatusBar { color: #a8a8b4; }
QStatusBar QLabel { color: #a8a8b4; }
QStatusBar::item { border: none; }
"""


class Window(QMainWindow):
    """Shows a session and edits its settings; it keeps no state of its own.

    Args:
        session: started by the caller, with ``bridge`` as a sink and listener; stopped when the window closes.
        bridge: brings the pictures.
        on_close: called with the settings at the end.
    """

    def __init__(self, session: Session, bridge: Bridge, on_close: Callable[[Settings], None] = lambda _: None) -> None:
        super().__init__()
        self._session = session
        self._bridge = bridge
        self._on_close = on_close
        self._closed = False
        stream = session.settings.stream
        known = {name: setting for name, _, setting in described(StreamConfig)}
        self.picture = Picture()
        self.prompt = QLineEdit(stream.prompt)
        self.prompt.setPlaceholderText("What should the picture become?")
        self.prompt.setAccessibleName("Prompt")
        self.prompt.setToolTip(known["prompt"].help)
        self.prompt.setClearButtonEnabled(True)
        self.strength = SettingSlider("Strength", known["strength"], stream.strength)
        self.skip = QCheckBox("Skip similar frames")
        self.skip.setToolTip(known["similarity_filter"].help)
        self.skip.setChecked(stream.similarity_filter)
        self.threshold = SettingSlider("above", known["similarity_threshold"], stream.similarity_threshold)
        self.threshold.setEnabled(stream.similarity_filter)
        self.numbers = QLabel()
        self._arrange()
        self._connect()
        self._refresh()

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self._closed:
            self._closed = True
            self._timer.stop()
            self._apply_prompt()
            self._session.stop()
            self._on_close(self._session.settings)
        event.accept()

    def _arrange(self) -> None:
        self.setWindowTitle("Vitrail")
        self.setStyleSheet(_STYLE)
        sliders = QHBoxLayout()
        sliders.setSpacing(28)
        sliders.addWidget(self.strength, 3)
        sliders.addWidget(self.skip)
        sliders.addWidget(self.threshold, 2)
        column = QVBoxLayout()
        column.setContentsMargins(14, 14, 14, 6)
        column.setSpacing(12)
        column.addWidget(self.picture, 1)
        column.addWidget(self.prompt)
        column.addLayout(sliders)
        body = QWidget()
        body.setLayout(column)
        self.setCentralWidget(body)
        self.numbers.setContentsMargins(12, 0, 12, 6)
        self.statusBar().addWidget(self.numbers, 1)
        self.statusBar().setSizeGripEnabled(False)
        self.resize(880, 800)
        self.prompt.setFocus()

    def _connect(self) -> None:
        self.typing = QTimer(self)
        self.typing.setSingleShot(True)
        self.typing.setInterval(TYPING_PAUSE_MS)
        self.typing.timeout.connect(self._apply_prompt)
        self.prompt.textEdited.connect(self.typing.start)
        self.prompt.returnPressed.connect(self._apply_prompt)
        self.strength.changed.connect(lambda value: self._change(strength=value))
        self.threshold.changed.connect(lambda value: self._change(similarity_threshold=value))
        self.skip.toggled.connect(self.threshold.setEnabled)
        self.skip.toggled.connect(lambda on: self._change(similarity_filter=on))
        self._bridge.pictured.connect(self._show_picture)
        self._bridge.told.connect(self._show_message)
        self._timer = QTimer(self)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        self._timer.start()

    def _apply_prompt(self) -> None:
        self.typing.stop()
        if self.prompt.text() != self._session.settings.stream.prompt:
            self._change(prompt=self.prompt.text())

    def _change(self, **changes: object) -> None:
        self._session.update(with_stream(self._session.settings, **changes))

    def _show_picture(self) -> None:
        frame = self._bridge.take()
        if frame is not None:
            self.picture.show_pixels(frame.pixels)

    def _show_message(self, what: Status | Notice) -> None:
        if isinstance(what, Notice):
            self.statusBar().showMessage(what.message, _NOTICE_MS)
        self._refresh()

    def _refresh(self) -> None:
        # The state of now, not of the message: a message that waited in Qt's queue may be out of date.
        self.picture.show_banner(banner(self._session.status))
        self.numbers.setText(status_line(self._session.metrics(), self._session.model))
