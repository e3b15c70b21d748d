"""Drawings as files: saved for others as a picture, opened again, and kept from one run to the next.

A drawing that is kept is two pictures, since an eraser must bring back after a restart what it would have brought back
before: what is seen, and what lies under the strokes.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
import platformdirs

from app.drawing import Drawing
from app.files import put_out_of_the_way
from app.sources.base import SourceError
from app.sources.images import read_image
from pipeline.picture_file import WRITTEN_SUFFIXES, write_picture

logger = logging.getLogger(__name__)

_SEEN, _GROUND = "drawing.png", "ground.png"


class DrawingError(Exception):
    """A drawing cannot be saved or opened. The message is one sentence for the user."""


def canvas_folder() -> Path:
    """Where the drawing is kept between two runs: a folder of the user's own."""
    return Path(platformdirs.user_data_dir("vitrail", appauthor=False)) / "canvas"


def save_drawing(drawing: Drawing, path: Path) -> None:
    """Write the drawing as a picture, whole or not at all: a file that was there is lost only to a whole one.

    Args:
        drawing: may be painted on meanwhile; what is written is one moment of it.
        path: its suffix, one of ``WRITTEN_SUFFIXES``, says the format.

    Raises:
        DrawingError: there is no such format, or the file cannot be written.
    """
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise DrawingError(f"{path.name} is no picture that can be written; name it {', '.join(WRITTEN_SUFFIXES)}.")
    try:
        write_picture(path, drawing.look().pixels)
    except OSError as error:
        raise DrawingError(f"{path} cannot be written: {error.strerror or error}.") from error


def open_drawing(drawing: Drawing, path: Path) -> None:
    """Go on with this picture, at its own size.

    Raises:
        DrawingError: it cannot be read, or is smaller or larger than a drawing can be.
    """
    try:
        drawing.open_picture(read_image(path))
    except (SourceError, ValueError) as error:
        raise DrawingError(f"{path.name} cannot be opened as a drawing: {error}") from error


def keep_drawing(drawing: Drawing, folder: Path) -> None:
    """Write the drawing for the next run. Raises ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(folder / _SEEN, drawing.look().pixels)
    ground = drawing.ground
    if (ground == np.array(drawing.paper, np.uint8)).all():
        (folder / _GROUND).unlink(missing_ok=True)
    else:
        write_picture(folder / _GROUND, ground)


def kept_drawing(folder: Path) -> Drawing | None:
    """The drawing of the last run, with nothing to undo; None where there is none.

    One that is damaged is set aside (``.bad``), so that the next one does not replace it, and the log says so.
    """
    if not (folder / _SEEN).exists():
        return None
    try:
        pixels = read_image(folder / _SEEN)
        ground = read_image(folder / _GROUND) if (folder / _GROUND).exists() else None
        if ground is not None and ground.shape != pixels.shape:
            ground = None
        return Drawing.of(pixels, ground)
    except (SourceError, ValueError) as error:
        logger.warning("the drawing in %s cannot be taken up again, and is set aside: %s", folder, error)
        with contextlib.suppress(OSError):
            put_out_of_the_way(folder / _SEEN)
        return None
