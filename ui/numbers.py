"""The numbers of the stream: a line under the picture, and a page with all of them."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from app.engine import ModelFacts
from app.metrics import Snapshot


class Strip(QWidget):
    """How late and how fast, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("strip")
        self.latency = QLabel("–")
        self.latency.setProperty("role", "pill")
        self.latency.setToolTip("From the camera to the screen, waiting included: the median of the last 3 seconds")
        self.speed = QLabel()
        self.speed.setProperty("role", "muted")
        self.hint = QLabel()
        self.hint.setProperty("role", "muted")
        self.picture = QLabel()
        self.picture.setProperty("role", "faint")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(12)
        row.addWidget(self.latency)
        row.addWidget(self.speed)
        row.addWidget(self.hint, 1)
        row.addWidget(self.picture)

    def show_counts(self, counts: Snapshot, model: ModelFacts | None) -> None:
        """Follow the counters."""
        if not counts.frames_out:
            self.latency.setText("–")
            self.speed.setText("")
            self.picture.setText("")
            return
        self.latency.setText(f"{counts.recent_latency_ms:.0f} ms late")
        self.speed.setText(f"{counts.fps_out:.1f} of {counts.fps_in:.1f} frames a second")
        device = f"  ·  {model.device}" if model else ""
        self.picture.setText(f"{counts.width} × {counts.height}{device}")


class Numbers(QWidget):
    """All of them."""

    def __init__(self) -> None:
        super().__init__()
        QVBoxLayout(self)
