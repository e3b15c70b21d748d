"""The line under a clip: where it is, and whether it starts over."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QWidget

from app.sources.video import VideoSource
from ui.icons import icon
from ui.inputs import Slider, quietly

_STEPS = 1000


class SeekBar(QWidget):
    """Winds a clip. ``follow`` is called every now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("foot")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._video: VideoSource | None = None
        self.slider = Slider()
        self.slider.setRange(0, _STEPS)
        self.slider.setPageStep(_STEPS // 20)
        self.slider.setAccessibleName("Place in the clip")
        self.time = QLabel()
        self.time.setProperty("role", "faint")
        self.loop = QToolButton()
        self.loop.setProperty("role", "small")
        self.loop.setIconSize(QSize(16, 16))
        self.loop.setCheckable(True)
        self.loop.setAccessibleName("Start over at the end")
        self.loop.setToolTip("Start over at the end")
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 4, 20, 4)
        row.setSpacing(12)
        row.addWidget(self.slider, 1)
        row.addWidget(self.time)
        row.addWidget(self.loop)
        self.slider.valueChanged.connect(self._wind)
        self.loop.toggled.connect(self._set_loop)
        self.dress()
        self.hide()

    def follow(self, video: VideoSource | None) -> None:
        """Show where this clip is; nothing where there is none."""
        self._video = video
        self.setVisible(video is not None and video.duration is not None)
        if video is None or not video.duration:
            return
        self.time.setText(f"{clock(video.position)} / {clock(video.duration)}")
        if not self.slider.isSliderDown():
            place = round(_STEPS * video.position / video.duration)
            quietly(self.slider, lambda: self.slider.setValue(place))
        quietly(self.loop, lambda: self.loop.setChecked(video.loop))

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        self.loop.setIcon(icon("loop", size=16))

    def _wind(self, place: int) -> None:
        if self._video is not None and self._video.duration:
            self._video.seek(self._video.duration * place / _STEPS)

    def _set_loop(self, loop: bool) -> None:
        if self._video is not None:
            self._video.loop = loop


def clock(seconds: float) -> str:
    """``1:05`` or ``1:02:03``."""
    minutes, left = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
