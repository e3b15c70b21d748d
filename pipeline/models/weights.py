"""Safetensors files, looked at before anything is read: what they are, whether they are whole, what they hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.models.errors import ModelError

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

# The format's own limit; no real header comes near it.
LARGEST_HEADER = 100_000_000
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says it holds.

    Attributes:
        shapes: of every tensor, by name.
        metadata: texts that its writer left.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of the safetensors file ``path``; no tensor is read.

    Raises:
        ModelError: it is a pickle, damaged, cut off, or cannot be read.
    """
    refuse_pickle(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(LARGEST_HEADER, size - _LENGTH_BYTES):
                raise ModelError(_no_safetensors(path, size, length))
            content = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: its header is not valid; get the file again") from error
    return _checked(path, content, size - _LENGTH_BYTES - length)


def refuse_pickle(path: Path) -> None:
    """Raise ``ModelError`` for a file that by its name or its first bytes is a pickle."""
    start = b""
    if path.is_file():
        try:
            with path.open("rb") as file:
                start = file.read(_LENGTH_BYTES)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() in PICKLES or start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x04"):
        raise ModelError(
            f"{path} holds its weights as pickle, which can run code, so it is not opened; "
            "take the .safetensors file of the same model, or convert it with a tool that you trust"
        )


def _no_safetensors(path: Path, size: int, length: int) -> str:
    if size == 0:
        return f"{path} is empty; get the file again"
    if length > LARGEST_HEADER:
        return f"{path} is not a safetensors file: its header would be {length / 1e9:.3g} GB; get the file again"
    return f"{path} is cut off: it has {size} bytes, less than its header alone; get the file again"


def _checked(path: Path, content: Any, stored: int) -> Header:
    damaged = ModelError(f"{path} is damaged: its header is not that of a safetensors file; get the file again")
    if not isinstance(content, dict):
        raise damaged
    metadata = content.pop("__metadata__", {})
    shapes, end = {}, 0
    try:
        for name, tensor in content.items():
            shapes[name] = tuple(int(side) for side in tensor["shape"])
            end = max(end, int(tensor["data_offsets"][1]))
    except (TypeError, KeyError, ValueError, IndexError):
        raise damaged from None
    if end > stored:
        raise ModelError(
            f"{path} is cut off: {stored} bytes of weights are there, {end} are named in it; get the file again"
        )
    return Header(shapes, metadata if isinstance(metadata, dict) else {})
