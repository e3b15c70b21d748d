"""Files as FFmpeg is given them."""

from __future__ import annotations

import os
from pathlib import Path

import av
from av.container import InputContainer

from pipeline.whole_files import open_ordinary


def open_media(path: Path) -> InputContainer:
    """The opened file. Raises what PyAV raises (``MEDIA_ERRORS``)."""
    # An absolute path, for FFmpeg would take ``12:30.mp4`` for an address of the protocol ``12``.
    return av.open(str(path.absolute()), metadata_errors="replace")


def ordinary_size(path: Path) -> int:
    """Bytes of a file that FFmpeg may be given: to open a pipe could wait for ever. Raises ``OSError`` for others."""
    with open_ordinary(path) as file:
        return file.seek(0, os.SEEK_END)
