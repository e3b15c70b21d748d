"""The window's own widgets: the live picture, and a slider that draws itself from a setting's description."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from pipeline.setting import Setting


class Picture(QWidget):
    """Shows a picture as large as it fits, in its own shape, with a line of text over it where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self._banner = ""
        self.setAccessibleName("Live picture")
        self.setMinimumSize(320, 240)

    @property
    def image(self) -> QImage:
        """The picture on show; null before the first."""
        return self._image

    @property
    def banner(self) -> str:
        """The text over the picture."""
        return self._banner

    def show_pixels(self, pixels: np.ndarray) -> None:
        """Show (H, W, 3) uint8 RGB."""
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels)
        # The image only points at the array, which the next frame may reuse, so it is copied.
        self._image = QImage(data.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self.update()

    def show_banner(self, text: str) -> None:
        """Write ``text`` over the picture; nothing where it is empty."""
        if text != self._banner:
            self._banner = text
            self.setAccessibleDescription(text)
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(800, 600)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(event.rect(), QColor(16, 16, 20))
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        if not self._image.isNull():
            size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
            corner = self.rect().center() - QRect(0, 0, size.width(), size.height()).center()
            painter.drawImage(QRect(corner, size), self._image)
        if self._banner:
            self._paint_banner(painter)
        painter.end()

    def _paint_banner(self, painter: QPainter) -> None:
        room = self.rect().adjusted(24, 24, -24, -24)
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        text = painter.boundingRect(room, int(flags), self._banner)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(16, 16, 20, 190))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.drawRoundedRect(text.adjusted(-16, -10, 16, 10), 8, 8)
        painter.setPen(QColor(235, 235, 240))
        painter.drawText(room, int(flags), self._banner)


class SettingSlider(QWidget):
    """A name, a slider and the value, for a number with a range and a step.

    Signals:
        changed: the new value, by hand only.
    """

    changed = Signal(float)

    def __init__(self, label: str, setting: Setting, value: float) -> None:
        super().__init__()
        if setting.low is None or setting.high is None:
            raise ValueError(f"{label} has no range to slide in")
        self._low = setting.low
        self._step = setting.step or (setting.high - setting.low) / 100
        self._decimals = max(0, len(f"{self._step:g}".partition(".")[2]))
        self._number = QLabel()
        self._number.setMinimumWidth(self._number.fontMetrics().horizontalAdvance("0.0000"))
        self._number.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, round((setting.high - setting.low) / self._step))
        self.slider.setAccessibleName(label)
        self.slider.setToolTip(setting.help)
        name = QLabel(label)
        name.setBuddy(self.slider)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(name)
        row.addWidget(self.slider, 1)
        row.addWidget(self._number)
        self.slider.setValue(round((value - self._low) / self._step))
        self._write()
        self.slider.valueChanged.connect(self._slid)

    @property
    def value(self) -> float:
        """Where the slider is, in the setting's unit."""
        return round(self._low + self.slider.value() * self._step, 6)

    def _slid(self) -> None:
        self._write()
        self.changed.emit(self.value)

    def _write(self) -> None:
        self._number.setText(f"{self.value:.{self._decimals}f}")
