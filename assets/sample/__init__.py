"""The project's own sample clip: a character in a room, moving for half of the time and still for the other half."""

from __future__ import annotations

from pathlib import Path


def clip_path() -> Path:
    """The clip: 640 x 480, 24 frames a second, 8 seconds, H.264, no sound. Drawn by ``assets.sample.render``."""
    return Path(__file__).with_name("clip.mp4")
