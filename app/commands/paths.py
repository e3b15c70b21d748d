"""What a command reads and what it writes: nothing is written onto what is read, nor written twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.commands.misuse import Misuse
from app.settings import Settings
from app.sinks.images import NUMBERED
from pipeline.adapter_list import parse_files, parse_loras
from pipeline.backdrop import parse_backdrop
from pipeline.model_files import files_of_adapter, files_of_model
from pipeline.shape_list import parse_shapes
from pipeline.user_path import is_folder, real_path, user_path

Identity = tuple[int, int] | str


def model_files(settings: Settings) -> dict[str, list[Path]]:
    """The files that settings name, by what they are for the user; none of what is on a hub."""
    stream = settings.stream
    added = [name for name, _ in parse_loras(stream.loras)] + list(parse_files(stream.embeddings))
    shown = [shape.model for shape in parse_shapes(stream.keep_shape)]
    shown += [stream.depth_model, stream.pose_model, stream.look_model]
    pictures = [name for name, _ in parse_loras(stream.look_like)] + [parse_backdrop(stream.background).path]
    return {
        "the model": list(files_of_model(user_path(settings.model))),
        "a LoRA or a learned word": [file for name in added for file in files_of_adapter(user_path(name))],
        "a model that keeps the shape or shows a picture": [
            file for name in filter(None, shown) for file in files_of_adapter(user_path(name))
        ],
        "a picture to steer by": [user_path(name) for name in filter(None, pictures)],
    }


def check_apart(read: Mapping[str, Iterable[Path]], written: Mapping[str, Path]) -> None:
    """See that no file is read and written, or written twice: under any name, hard and symbolic links included.

    Args:
        read: files by what they are for the user ("the input").
        written: likewise ("the output"); a folder, there or not, stands for the numbered pictures in it.

    Raises:
        Misuse: there is one, or that cannot be known.
    """
    known = {identity: what for what, paths in read.items() for path in paths for identity in _identities(path)}
    for what, path in written.items():
        mine = [(one, identity) for one in _replaced(path) for identity in _identities(one)]
        for one, identity in mine:
            if identity in known:
                raise Misuse(f"{one} is also {known[identity]}; give {what} another name.")
        known |= {identity: what for _, identity in mine}
        for other, folder in written.items():
            if other != what and NUMBERED.fullmatch(path.name) and _is_folder_of(folder, path):
                raise Misuse(f"{path} may also be a picture of {other}; give {what} another name.")


def _replaced(path: Path) -> list[Path]:
    """The files that are replaced by what is written to ``path``. Raises ``Misuse`` where that cannot be known."""
    if is_folder(path):
        try:
            return [one for one in path.iterdir() if NUMBERED.fullmatch(one.name)]
        except OSError as error:
            raise Misuse(
                f"The folder {path} cannot be listed: {error.strerror}. "
                "What would be replaced in it cannot be known; give another folder."
            ) from error
    return [path]


def _is_folder_of(folder: Path, path: Path) -> bool:
    return real_path(folder) == real_path(path.parent)


def _identities(path: Path) -> list[Identity]:
    """What a file is known by: its place on the disk where it is there, its full name where it is not."""
    names: list[Identity] = [os.path.normcase(real_path(path))]
    try:
        found = path.stat()
    except OSError:
        return names
    return [*names, (found.st_dev, found.st_ino)]
