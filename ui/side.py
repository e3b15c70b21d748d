"""The column beside the picture: controls and numbers in turn, undo and redo, and the model that serves."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.engine import ModelFacts
from ui.actions import Actions
from ui.icons import icon
from ui.inputs import Segments
from ui.panel import WIDTH, Panel


class Side(QWidget):
    """The column.

    Args:
        panel: the controls.
        numbers: the numbers.
        actions: what its buttons do.
    """

    def __init__(self, panel: Panel, numbers: QWidget, actions: Actions) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedWidth(WIDTH)
        self.pages = QStackedWidget()
        self.pages.addWidget(panel)
        self.pages.addWidget(numbers)
        segments = Segments()
        pages = enumerate(("Adjust", "Numbers"))
        self.tabs = [segments.add(text, partial(self.show_page, index)) for index, text in pages]
        self.model = QPushButton("Loading…")
        self.model.setProperty("role", "tile")
        self.model.setIconSize(QSize(18, 18))
        self.model.setAccessibleName("Model")
        self.model.setToolTip(actions["model"].toolTip())
        self.model.clicked.connect(actions["model"].trigger)
        self.presets = QPushButton("Presets")
        self.presets.setToolTip(actions["presets"].toolTip())
        self.presets.clicked.connect(actions["presets"].trigger)
        head = QHBoxLayout()
        head.setContentsMargins(14, 12, 12, 8)
        head.setSpacing(4)
        head.addWidget(segments)
        head.addStretch(1)
        for name in ("undo", "redo"):
            button = actions.button(name)
            button.setIconSize(QSize(18, 18))
            head.addWidget(button)
        foot = QHBoxLayout()
        foot.setContentsMargins(14, 10, 14, 12)
        foot.setSpacing(8)
        foot.addWidget(self.model, 1)
        foot.addWidget(self.presets)
        line = QFrame()
        line.setProperty("role", "line")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self.pages, 1)
        column.addWidget(line)
        column.addLayout(foot)
        self.show_page(0)
        self.dress()

    def show_page(self, index: int) -> None:
        """The controls (0) or the numbers (1)."""
        self.pages.setCurrentIndex(index)
        self.tabs[index].setChecked(True)

    def show_model(self, facts: ModelFacts | None) -> None:
        """Name the model that serves."""
        if facts is not None:
            self.model.setText(self.model.fontMetrics().elidedText(facts.name, Qt.TextElideMode.ElideMiddle, 130))
            self.model.setAccessibleName(f"Model: {facts.name}")

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        self.model.setIcon(icon("cube", size=18))
        self.presets.setIcon(icon("preset", size=18))
