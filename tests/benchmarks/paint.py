"""How long painting a picture in the window takes: ``python -m tests.benchmarks.paint``.

Shows a view of 1920 x 1080 and gives it pictures of several sizes, in each way of showing them. Prints the median
of the painting alone; scaling happens before, on the thread that delivers the pictures. Offscreen, unless
``QT_QPA_PLATFORM`` says otherwise.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

FRAMES = 80
SIZES = ((512, 288), (912, 512), (1920, 1080))


def main() -> int:
    """Measure and print."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtWidgets import QApplication

    from app.frame import Frame
    from ui.layout import Mode
    from ui.viewer import Viewer

    application = QApplication([])
    rng = np.random.default_rng(0)
    for mode in Mode:
        for width, height in SIZES:
            viewer = Viewer()
            viewer.mode = mode
            viewer.resize(1920, 1080)
            viewer.show()
            application.processEvents()
            pictures = [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(4)]
            for index in range(FRAMES):
                original = Frame(index, time.monotonic(), pictures[index % 4])
                viewer.presenter.offer(Frame(index, original.captured_at, pictures[index % 3], original=original))
                viewer.refresh()
                viewer.repaint()
            print(f"{mode.value:>8}, picture of {width}x{height}: {viewer.median_paint_ms:.2f} ms")  # noqa: T201
            viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
