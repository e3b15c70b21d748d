"""A picture with the settings that made it inside: a PNG whose text chunk Vitrail can read back."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.files import names, snapshots_folder
from app.json_files import DamagedError, encodable, few, parse_json, to_json
from app.settings import Settings
from app.settings_file import from_dict
from app.sinks.base import SinkError
from app.sinks.recorder import make_folder
from pipeline.whole_files import open_ordinary

_KEY = "vitrail"
_VERSION = 1


class SnapshotError(Exception):
    """No settings can be read from the file. The message is one sentence for the user."""


def save_snapshot(pixels: np.ndarray, settings: Settings, model: str = "", folder: Path | None = None) -> Path:
    """Write a PNG into ``folder``, under a name that no file has; takes some 50 ms for a large picture.

    Beside the settings in JSON (chunk ``vitrail``) it carries the prompt as the usual ``Description``.

    Args:
        pixels: (H, W, 3) uint8 RGB, or (H, W, 4) with straight opacity.
        settings: those that the picture was made with.
        model: the name of the model that made it.
        folder: made where it is missing; the user's folder for pictures by default.

    Returns:
        The path of the new file.

    Raises:
        SinkError: it cannot be written; nothing is left behind.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    folder = folder if folder is not None else snapshots_folder()
    make_folder(folder)
    inside = {"version": _VERSION, "model": model, "settings": dataclasses.asdict(settings)}
    text = PngInfo()
    text.add_itxt("Software", "Vitrail")
    text.add_itxt("Description", encodable(settings.stream.prompt))
    text.add_itxt(_KEY, to_json(inside))
    path = folder
    try:
        for path in names(folder, ".png"):
            try:
                # Exclusive: two snapshots in one second must not meet.
                with path.open("xb") as file:
                    try:
                        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", pnginfo=text, compress_level=4)
                    except BaseException:
                        file.close()
                        path.unlink(missing_ok=True)
                        raise
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror or error}.") from error
    raise AssertionError("names never end")


class SnapshotThread(threading.Thread):
    """``save_snapshot`` on a thread of its own, for those who cannot wait for a disk.

    Args:
        then: called on this thread when it is done.

    Attributes:
        path: of the new file, once it is there.
        error: why there is none.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        settings: Settings,
        model: str = "",
        folder: Path | None = None,
        *,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        # A daemon: a disk that does not answer must not keep the program from ending.
        super().__init__(name="vitrail-snapshot", daemon=True)
        self._save = partial(save_snapshot, pixels, settings, model, folder)
        self._then = then
        self.path: Path | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.path = self._save()
        except Exception as error:  # noqa: BLE001 - kept for whoever asked for it, who tells the user
            self.error = error
        self._then()


def settings_of_snapshot(path: Path) -> tuple[Settings, list[str]]:
    """The settings that a snapshot was made with, and notes on what of them this version cannot use.

    Raises:
        SnapshotError: there is no such picture, or it is no snapshot.
    """
    inside = _inside(path)
    if inside.get("version") != _VERSION:
        raise SnapshotError(f"{path.name} was made by a newer version of Vitrail; its settings cannot be read.")
    found = inside.get("settings")
    if not isinstance(found, dict):
        raise SnapshotError(f"{path.name} has no settings in it.")
    settings, notes = from_dict(found)
    return settings, few(notes)


def _inside(path: Path) -> dict[str, Any]:
    from PIL import UnidentifiedImageError

    from pipeline.picture_file import TooManyPixelsError, open_picture

    try:
        with open_ordinary(path) as file, open_picture(file, ("PNG",)) as picture:
            picture.load()  # text may also come after the pixels
            text = getattr(picture, "text", {}).get(_KEY)
    except UnidentifiedImageError as error:
        raise SnapshotError(f"{path.name} is not a PNG picture.") from error
    except TooManyPixelsError as error:
        raise SnapshotError(f"{path.name} is {error}.") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise SnapshotError(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if text is None:
        raise SnapshotError(f"{path.name} has no settings in it; only Vitrail's own snapshots do.")
    try:
        inside = parse_json(text)
    except DamagedError as error:
        raise SnapshotError(f"The settings in {path.name} are damaged.") from error
    return inside if isinstance(inside, dict) else {}
