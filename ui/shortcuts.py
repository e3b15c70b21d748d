"""What can be done by key, on one page."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from ui.actions import COMMANDS

_COLUMNS = 2


class ShortcutsDialog(QDialog):
    """The page, from the same table that makes the shortcuts."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Shortcuts")
        title = QLabel("Shortcuts")
        title.setProperty("role", "title")
        columns = QHBoxLayout()
        columns.setSpacing(48)
        halves = [QVBoxLayout() for _ in range(_COLUMNS)]
        for half in halves:
            half.setSpacing(20)
            columns.addLayout(half)
        sections = [command.section for command in COMMANDS]
        for section in dict.fromkeys(sections):  # as high as each other, so that they fit on small screens
            halves[_COLUMNS * sections.index(section) // len(sections)].addLayout(_section(section))
        for half in halves:
            half.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(28, 24, 28, 26)
        column.setSpacing(20)
        column.addWidget(title)
        column.addLayout(columns)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.text() == "?":
            self.accept()
        else:
            super().keyPressEvent(event)


def _section(name: str) -> QGridLayout:
    rows = QGridLayout()
    rows.setHorizontalSpacing(24)
    rows.setVerticalSpacing(9)
    heading = QLabel(name)
    heading.setProperty("role", "caption")
    rows.addWidget(heading, 0, 0, 1, 2)
    for row, command in enumerate((one for one in COMMANDS if one.section == name), 1):
        text = QLabel(command.text)
        key = QLabel(command.shown_keys)
        key.setProperty("role", "key")
        rows.addWidget(text, row, 0)
        rows.addWidget(key, row, 1, Qt.AlignmentFlag.AlignRight)
    rows.setColumnStretch(0, 1)
    return rows
