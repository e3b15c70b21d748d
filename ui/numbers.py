"""The numbers of the stream: a line under the picture, and a page with all of them."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from app.engine import ModelFacts
from app.hints import ENOUGH
from app.metrics import Snapshot
from app.series import Series
from ui.graph import Graph, Meter, StageBars


class Strip(QWidget):
    """How late and how fast, in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("strip")
        self.latency = QLabel("–")
        self.latency.setProperty("role", "pill")
        self.latency.setToolTip("From the source to the screen, waiting included: the median of the last 3 seconds")
        self.speed = _label("muted")
        self.hint = _label("faint")
        self.hint.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.picture = _label("faint")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(14)
        row.addWidget(self.latency)
        row.addWidget(self.speed)
        row.addWidget(self.hint, 1)
        row.addWidget(self.picture)

    def show_counts(self, counts: Snapshot, model: ModelFacts | None, hint: str = "") -> None:
        """Follow the counters."""
        self.hint.setText(self.hint.fontMetrics().elidedText(hint, Qt.TextElideMode.ElideRight, self.hint.width()))
        self.hint.setToolTip(hint)
        if not counts.frames_out:
            self.latency.setText("–")
            self.speed.setText("")
            self.picture.setText("")
            return
        late = counts.recent_latency_ms
        self.latency.setText(f"{late:.0f} ms late" if late else "–")  # nothing was shown in the last seconds
        made = f"{counts.fps_out:.1f}"
        if counts.fps_reprojected:  # a late picture and one carried to the same moment are both shown: no sum
            made += f" drawn, {counts.fps_reprojected:.1f} carried,"
        self.speed.setText(f"{made} of {counts.fps_in:.1f} frames a second")
        device = f"  ·  {model.device}" if model else ""
        self.picture.setText(f"{counts.width} × {counts.height}{device}")


class Numbers(QScrollArea):
    """All of them: hint, graphs of the last minute, stages, counters, device."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.latency = QLabel("–")
        self.latency.setProperty("role", "big")
        self.hint = _label("muted")
        self.hint.setWordWrap(True)
        self.fps = Graph("Frames a second, out / in", "fps", 10)
        self.lateness = Graph("Latency, median / 95th percentile", "ms", 50)
        self.memory = Graph("Memory", "MB", 256)
        self.stages = StageBars()
        self._facts: dict[str, QLabel] = {}
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(20, 14, 20, 18)
        column.setSpacing(14)
        column.addWidget(self.latency)
        column.addWidget(self.hint)
        for graph in (self.fps, self.lateness, self.memory):
            column.addWidget(graph)
        caption = _label("caption")
        caption.setText("WHERE THE TIME GOES")
        column.addWidget(caption)
        column.addWidget(self.stages)
        self._grid = QGridLayout()
        self._grid.setVerticalSpacing(7)
        column.addLayout(self._grid)
        column.addStretch(1)
        self.setWidget(page)

    def show_counts(self, counts: Snapshot, model: ModelFacts | None, series: Series, hint: str) -> None:
        """Follow the counters."""
        late = f"{counts.recent_latency_ms:.0f} ms" if counts.frames_out else "–"
        self.latency.setText(f"{late} late" if counts.frames_out else late)
        self.hint.setText(hint or _no_hint(counts.frames_out))
        points = series.points
        times = [point.at for point in points]
        self.fps.show_lines(times, [point.fps_out for point in points], [point.fps_in for point in points])
        self.lateness.show_lines(
            times, [point.latency_p50_ms for point in points], [point.latency_p95_ms for point in points]
        )
        memory = [[point.memory_mb for point in points], [point.device_memory_mb for point in points]]
        self.memory.show_lines(times, *(line for line in memory if any(line)))
        self.stages.show_stages(counts.stages_ms)
        self._show_facts(counts, model)

    def fact(self, name: str) -> str:
        """What is shown for this name."""
        return self._facts[name].text()

    def _show_facts(self, counts: Snapshot, model: ModelFacts | None) -> None:
        facts = {
            "Frames in": f"{counts.frames_in:,}",
            "Frames out": f"{counts.frames_out:,}",
            "Carried along the motion": f"{counts.frames_reprojected:,}",
            "Dropped for newer ones": share(counts.frames_dropped, counts.frames_in),
            "Skipped as similar": share(counts.frames_skipped, counts.frames_in - counts.frames_dropped),
            "Picture": f"{counts.width} × {counts.height}",
        }
        if model is not None:
            facts |= {
                "Model": model.name,
                "Device": model.device,
                "Numbers": model.dtype,
                "Acceleration": counts.acceleration or model.acceleration,
            }
        for name, text in facts.items():
            if name not in self._facts:
                row = len(self._facts)
                title, value = _label("muted"), QLabel()
                title.setText(name)
                value.setAlignment(Qt.AlignmentFlag.AlignRight)
                value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                value.setFocusPolicy(Qt.FocusPolicy.NoFocus)
                self._grid.addWidget(title, row, 0)
                self._grid.addWidget(value, row, 1)
                self._facts[name] = value
            self._facts[name].setText(text)


class SimilarityMeter(QWidget):
    """How alike the frames are, and how many are skipped for it."""

    def __init__(self) -> None:
        super().__init__()
        self.meter = Meter()
        self.words = _label("faint")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.meter)
        column.addWidget(self.words)

    def show_counts(self, counts: Snapshot, threshold: float, *, on: bool) -> None:
        """Follow the counters."""
        self.meter.show_value(counts.similarity, threshold, on=on)
        skipped = share(counts.frames_skipped, counts.frames_in - counts.frames_dropped)
        self.words.setText(
            f"Similarity {counts.similarity:.3f}  ·  skipped {skipped}" if on else "Every frame is drawn."
        )


def share(part: int, whole: int) -> str:
    """``12 (3 %)``."""
    return f"{part:,} ({100 * part / whole:.0f} %)" if whole else f"{part:,}"


def _no_hint(frames_out: int) -> str:
    if not frames_out:
        return "Waiting for the first picture."
    return "All is well." if frames_out >= ENOUGH else "Measuring…"


def _label(role: str) -> QLabel:
    label = QLabel()
    label.setProperty("role", role)
    return label
