"""The live picture: output, input, both, one wiped over the other, or the hint."""

from __future__ import annotations

import time
from collections import deque

from PySide6.QtCore import QElapsedTimer, QPointF, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.frame import Frame
from app.metrics import percentile
from ui import theme
from ui.icons import pixmap
from ui.layout import Layout, Mode, Rect, Zoom
from ui.pixels import Part, Prepared, Presenter

_GRIP = 34  # the diameter of the handle on the dividing line, in logical pixels
_KEPT_TIMES = 240
NO_HINT = (
    "No shape is kept: name a hint under Keep shape, such as canny:0.8, and here are the outlines, depth or pose "
    "that the picture follows."
)
FADE_MS = 400
REST_MS = 1500  # a pointer that has not moved for so long is in the way of the picture


class Viewer(QWidget):
    """Shows frames in their own shape. Attach its ``presenter`` to a bridge, and call ``refresh`` on new pictures.

    Signals:
        full_screen_asked: a double click.
    """

    full_screen_asked = Signal()

    def __init__(self, parent: QWidget | None = None, *, clean: bool = False, transparent: bool = False) -> None:
        """``clean`` leaves out all that is not the picture, ``transparent`` also what is behind it."""
        super().__init__(parent)
        self.presenter = Presenter(transparent=transparent)
        self._clean = clean
        self._transparent = transparent
        self._mode = Mode.OUTPUT
        self._zoom = Zoom.FIT
        self._split = 0.5
        self._dragging = False
        self._pointer_hides = False
        self._resting = QTimer(self)
        self._resting.setSingleShot(True)
        self._resting.setInterval(REST_MS)
        self._resting.timeout.connect(lambda: self.setCursor(Qt.CursorShape.BlankCursor))
        self._prepared: Prepared | None = None
        self._faded: list[tuple[QRectF, QImage]] = []  # the last frame of the source, while the first picture comes in
        self._fade = QElapsedTimer()
        self._fading = QTimer(self)
        self._fading.setInterval(16)
        self._fading.timeout.connect(self.update)
        self._paint_ms: deque[float] = deque(maxlen=_KEPT_TIMES)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(QSize(64, 48) if clean else QSize(320, 220))
        self.setAccessibleName("Live picture")
        self.setMouseTracking(not clean)

    # -- what is shown ------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """Output, input, both, or the hint."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        # Only the divider can be moved by the keyboard, so only then is this a stop of the tab key.
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus if mode is Mode.SPLIT else Qt.FocusPolicy.NoFocus)
        self._rearrange()

    @property
    def zoom(self) -> Zoom:
        """As large as it fits, or pixel for pixel."""
        return self._zoom

    @zoom.setter
    def zoom(self, zoom: Zoom) -> None:
        self._zoom = zoom
        self._rearrange()

    @property
    def split(self) -> float:
        """Where the before and after meet: 0 (left, all after) to 1 (right, all before)."""
        return self._split

    @split.setter
    def split(self, split: float) -> None:
        self._split = min(1.0, max(0.0, split))
        self.setAccessibleDescription(f"Before and after meet at {self._split:.0%}")
        self.update()

    @property
    def pointer_hides(self) -> bool:
        """Whether a pointer that rests over the picture is not shown, until it moves."""
        return self._pointer_hides

    @pointer_hides.setter
    def pointer_hides(self, hides: bool) -> None:
        self._pointer_hides = hides
        if hides:
            self._resting.start()
        else:
            self._resting.stop()
            self.setCursor(Qt.CursorShape.ArrowCursor)

    @property
    def frame(self) -> Frame | None:
        """The picture on show; None before the first, also while frames of the source are shown that have none."""
        frame = self._prepared.frame if self._prepared else None
        return frame if frame is not None and frame.original is not None else None

    @property
    def median_paint_ms(self) -> float:
        """Milliseconds that a painting takes, the median of the last ones; 0 before the first."""
        return percentile(sorted(self._paint_ms), 50)

    def refresh(self) -> None:
        """Show the newest frame that the presenter was offered."""
        prepared = self.presenter.take()
        if prepared is not None:
            self._show(prepared)

    def picture_area(self) -> QRect:
        """Where the picture lies, in logical pixels; empty before the first."""
        parts = self._prepared.parts() if self._prepared else []
        area = QRectF()
        for part in parts:
            area = area.united(self._logical(part.place))
        return area.toAlignedRect()

    def sizeHint(self) -> QSize:
        return QSize(960, 640)

    # -- events -------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._rearrange()

    def paintEvent(self, event: QPaintEvent) -> None:
        started = time.perf_counter()
        painter = QPainter(self)
        ground = QColor(theme.current().stage if not self._clean else "#000000")
        if self._transparent:
            ground = QColor(Qt.GlobalColor.transparent)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        if self._prepared is not None and self._prepared.layout.scale != self.devicePixelRatio():
            self._rearrange()  # the window was moved to another screen
        prepared = self._prepared
        if prepared is None:
            painter.fillRect(event.rect(), ground)
            return
        self._fill_around(painter, prepared, ground)
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Source)
        for part in prepared.parts():
            if not (part is prepared.output and prepared.layout.mode is Mode.SPLIT):
                painter.drawImage(self._logical(part.place).topLeft(), self._image(part))
        painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        if self._faded:
            self._paint_fade(painter)
        if prepared.layout.mode is Mode.SPLIT and prepared.output is not None:
            self._paint_split(painter, prepared.output)
        if prepared.layout.shows_hint and prepared.hint is None:
            self._paint_words(painter, NO_HINT)
        painter.end()
        self._paint_ms.append(1000 * (time.perf_counter() - started))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if self._at_divider(event.position()) and event.button() is Qt.MouseButton.LeftButton:
            self._dragging = True
            self._drag_to(event.position())
        else:
            super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragging:
            self._drag_to(event.position())
        elif not self._clean:
            over = self._at_divider(event.position())
            self.setCursor(Qt.CursorShape.SplitHCursor if over else Qt.CursorShape.ArrowCursor)
            if self._pointer_hides:
                self._resting.start()
            super().mouseMoveEvent(event)
        else:
            super().mouseMoveEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._dragging = False
        super().mouseReleaseEvent(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton and not self._at_divider(event.position()):
            self.full_screen_asked.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Left: -0.02, Qt.Key.Key_Right: 0.02}
        step = steps.get(Qt.Key(event.key()))
        if self._mode is Mode.SPLIT and step is not None:
            self.split += step
        else:
            super().keyPressEvent(event)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _layout_now(self) -> Layout:
        scale = self.devicePixelRatio()
        box = (round(self.width() * scale), round(self.height() * scale))
        return Layout(box, self._mode, self._zoom, scale)

    def _rearrange(self) -> None:
        """The view has another size or another mode: make what is on show ready again, as no new frame may come."""
        self.presenter.want(self._layout_now())
        if self._prepared is not None:
            again = self.presenter.prepare(self._prepared.frame)
            if again is not None:
                self._show(again)

    def _show(self, prepared: Prepared) -> None:
        before, self._prepared = self._prepared, prepared
        if before is not None:
            if _is_preview(before) and not _is_preview(prepared):
                self._begin_fade(before)
            self.presenter.release(before)
        self.update()

    def _begin_fade(self, before: Prepared) -> None:
        """The first picture takes the place of the source's frame little by little."""
        self._faded = [(self._logical(part.place), self._image(part).copy()) for part in before.parts()[:1]]
        self._fade.start()
        self._fading.start()

    def _paint_fade(self, painter: QPainter) -> None:
        left = 1 - self._fade.elapsed() / FADE_MS
        if left <= 0:
            self._faded = []
            self._fading.stop()
            return
        painter.setOpacity(left)
        for area, image in self._faded:
            painter.drawImage(area, image)
        painter.setOpacity(1)

    def _logical(self, place: Rect) -> QRectF:
        scale = self.devicePixelRatio()
        return QRectF(place.x / scale, place.y / scale, place.width / scale, place.height / scale)

    def _image(self, part: Part) -> QImage:
        image = part.image()
        image.setDevicePixelRatio(self.devicePixelRatio())
        return image

    def _fill_around(self, painter: QPainter, prepared: Prepared, ground: QColor) -> None:
        left = [QRectF(self.rect())]
        for part in prepared.parts():
            left = [piece for whole in left for piece in _without(whole, self._logical(part.place))]
        for piece in left:
            painter.fillRect(piece, ground)

    def _divider(self) -> float:
        area = self.picture_area()
        return area.left() + self._split * area.width()

    def _at_divider(self, at: QPointF) -> bool:
        return self._mode is Mode.SPLIT and self._prepared is not None and abs(at.x() - self._divider()) < _GRIP / 2

    def _drag_to(self, at: QPointF) -> None:
        area = self.picture_area()
        if area.width():
            self.split = (at.x() - area.left()) / area.width()

    def _paint_words(self, painter: QPainter, words: str) -> None:
        """A sentence in the place of a picture that there is none of."""
        room = self.rect().adjusted(32, 32, -32, -32)
        room.setWidth(min(room.width(), 440))
        room.moveCenter(self.rect().center())
        painter.setPen(QColor(theme.current().muted))
        painter.drawText(room, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, words)

    def _paint_split(self, painter: QPainter, output: Part) -> None:
        """The input is painted already; the output goes over it to the right of the line."""
        area = self._logical(output.place)
        x = area.left() + self._split * area.width()
        painter.save()
        painter.setClipRect(QRectF(x, area.top(), area.right() - x, area.height()))
        painter.drawImage(area.topLeft(), self._image(output))
        painter.restore()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(255, 255, 255, 230), 2))
        painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        if self._clean:
            return
        middle = QPointF(x, area.center().y())
        painter.setPen(QPen(QColor(0, 0, 0, 60), 1))
        painter.setBrush(QColor("#ffffff"))
        painter.drawEllipse(middle, _GRIP / 2, _GRIP / 2)
        arrows = pixmap("arrows", "#20242c", 18, self.devicePixelRatio())
        painter.drawPixmap(middle - QPointF(9, 9), arrows)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(QColor(theme.current().accent), 3))
            painter.drawEllipse(middle, _GRIP / 2 + 2, _GRIP / 2 + 2)


def _is_preview(prepared: Prepared) -> bool:
    """Whether this is a frame of the source that no picture was made of."""
    return prepared.frame.original is None


def _without(whole: QRectF, hole: QRectF) -> list[QRectF]:
    """``whole`` with a rectangle cut out of it, in up to four pieces."""
    hole = whole.intersected(hole)
    if hole.isEmpty():
        return [whole]
    pieces = [
        QRectF(whole.left(), whole.top(), whole.width(), hole.top() - whole.top()),
        QRectF(whole.left(), hole.bottom(), whole.width(), whole.bottom() - hole.bottom()),
        QRectF(whole.left(), hole.top(), hole.left() - whole.left(), hole.height()),
        QRectF(hole.right(), hole.top(), whole.right() - hole.right(), hole.height()),
    ]
    return [piece for piece in pieces if not piece.isEmpty()]
