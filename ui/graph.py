"""A small graph of the last minute, and bars of the engine's stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QLinearGradient, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.series import KEPT_SECONDS
from ui import theme


class Graph(QWidget):
    """One or two lines over time; the newest at the right edge.

    Args:
        name: for people.
        unit: after the numbers.
        least: the scale reaches at least to this.
    """

    def __init__(self, name: str, unit: str, least: float) -> None:
        super().__init__()
        self._name, self._unit, self._least = name, unit, least
        self._times: list[float] = []
        self._lines: list[list[float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(f"{name}, the last minute")

    @property
    def newest(self) -> list[float]:
        """The newest value of each line."""
        return [line[-1] for line in self._lines if line]

    def show_lines(self, times: Sequence[float], *lines: Sequence[float]) -> None:
        """Draw these; ``times`` in seconds, ascending, one for each value of a line."""
        self._times = list(times)
        self._lines = [list(line) for line in lines]
        spoken = " and ".join(f"{value:.0f}" for value in self.newest)
        self.setAccessibleDescription(f"now {spoken} {self._unit}" if spoken else "nothing yet")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(280, 74)

    def paintEvent(self, _: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        room = QRectF(self.rect()).adjusted(0, 18, 0, -2)
        top = max([self._least, *(max(line, default=0.0) for line in self._lines)]) * 1.1
        painter.setPen(QColor(colours.faint))
        painter.drawText(QRectF(0, 0, self.width(), 15), Qt.AlignmentFlag.AlignLeft, self._name)
        words = "  /  ".join(_short(value) for value in self.newest)
        painter.setPen(QColor(colours.text))
        painter.drawText(
            QRectF(0, 0, self.width(), 15), Qt.AlignmentFlag.AlignRight, f"{words} {self._unit}" if words else "–"
        )
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.raised))
        painter.drawRoundedRect(room, 6, 6)
        inks = (QColor(colours.accent), QColor(colours.faint))
        for line, ink in reversed(list(zip(self._lines, inks, strict=False))):
            self._paint_line(painter, room.adjusted(0, 3, 0, -1), line, top, ink)
        painter.end()

    def _paint_line(self, painter: QPainter, room: QRectF, line: list[float], top: float, ink: QColor) -> None:
        if len(line) < 2:
            return
        now = self._times[-1]
        points = [
            QPointF(
                room.right() - room.width() * (now - at) / KEPT_SECONDS, room.bottom() - room.height() * value / top
            )
            for at, value in zip(self._times, line, strict=True)
        ]
        path = QPainterPath(points[0])
        for point in points[1:]:
            path.lineTo(point)
        area = QPainterPath(path)
        area.lineTo(points[-1].x(), room.bottom())
        area.lineTo(points[0].x(), room.bottom())
        fade = QLinearGradient(room.topLeft(), room.bottomLeft())
        soft = QColor(ink)
        soft.setAlpha(60)
        fade.setColorAt(0, soft)
        soft.setAlpha(4)
        fade.setColorAt(1, soft)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fade)
        painter.drawPath(area)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(ink, 1.6))
        painter.drawPath(path)


class StageBars(QWidget):
    """How long each stage of the engine takes."""

    def __init__(self) -> None:
        super().__init__()
        self._stages: Mapping[str, float] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Engine stages")

    def show_stages(self, stages_ms: Mapping[str, float]) -> None:
        """Draw these milliseconds."""
        self._stages = dict(stages_ms)
        self.setAccessibleDescription(", ".join(f"{name} {ms:.1f} ms" for name, ms in self._stages.items()))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(280, max(1, len(self._stages)) * 24)

    def paintEvent(self, _: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        most = max(self._stages.values(), default=0.0) or 1.0
        left, right = 66.0, 64.0
        for row, (name, ms) in enumerate(self._stages.items()):
            y = 24.0 * row
            painter.setPen(QColor(colours.muted))
            painter.drawText(QRectF(0, y, left, 22), Qt.AlignmentFlag.AlignVCenter, _STAGES.get(name, name))
            track = QRectF(left, y + 8, self.width() - left - right, 6)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colours.raised))
            painter.drawRoundedRect(track, 3, 3)
            track.setWidth(max(6.0, track.width() * ms / most))
            painter.setBrush(QColor(colours.accent))
            painter.drawRoundedRect(track, 3, 3)
            painter.setPen(QColor(colours.text))
            where = QRectF(self.width() - right, y, right, 22)
            painter.drawText(where, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, f"{ms:.1f} ms")
        painter.end()


class Meter(QWidget):
    """Similarity of the last frame on a scale, and the threshold on it."""

    def __init__(self) -> None:
        super().__init__()
        self._value = self._mark = 0.0
        self._on = False
        self.setFixedHeight(12)
        self.setAccessibleName("Similarity")

    def show_value(self, value: float, mark: float, *, on: bool) -> None:
        """``value`` and ``mark`` in 0..1."""
        self._value, self._mark, self._on = value, mark, on
        self.setAccessibleDescription(f"{value:.3f}, threshold {mark:.3f}")
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        track = QRectF(0, 3, self.width(), 6)
        painter.setBrush(QColor(colours.strong_line))
        painter.drawRoundedRect(track, 3, 3)
        if self._on:
            filled = QRectF(track)
            filled.setWidth(max(6.0, track.width() * self._stretched(self._value)))
            over = self._value >= self._mark
            painter.setBrush(QColor(colours.good if over else colours.accent))
            painter.drawRoundedRect(filled, 3, 3)
            x = min(self.width() - 2.0, track.width() * self._stretched(self._mark))
            painter.setBrush(QColor(colours.text))
            painter.drawRect(QRectF(x, 0, 2, 12))
        painter.end()

    @staticmethod
    def _stretched(value: float) -> float:
        """Pictures of one scene are 0.9 to 1 similar: that part gets most of the room."""
        value = min(1.0, max(0.0, value))
        return 0.25 * value / 0.9 if value < 0.9 else 0.25 + 7.5 * (value - 0.9)


_STAGES = {"encode": "Encode", "unet": "Model", "decode": "Decode"}


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
