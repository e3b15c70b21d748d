"""Safetensors files, looked at before anything is read: which they are, whether they are whole, what they hold."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch

from pipeline.models.errors import ModelError, explained

SUFFIX = ".safetensors"
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

# The format's own limit; no real header comes near it.
LARGEST_HEADER = 100_000_000
# SDXL with a second copy of its weights has about 5,000; a file of millions is made to keep its reader busy.
MOST_TENSORS = 100_000
_LENGTH_BYTES = 8
_LARGEST_NUMBER = 2**63

# Names of the weights of a part, as diffusers and transformers write them; the variants in the order of preference.
_STEMS = ("diffusion_pytorch_model", "model")
_VARIANTS = ("", ".fp16")


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
        with path.open("rb") as file:
            size = path.stat().st_size
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
    """Raise ``ModelError`` for what by its name or its first bytes is a pickle, and for what is no file at all."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} is not a file; give a {SUFFIX} file")
        with path.open("rb") as file:
            start = file.read(_LENGTH_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() in PICKLES or _starts_as_pickle(start, status.st_size):
        raise ModelError(
            f"{path} holds its weights as pickle, which can run code, so it is not opened; "
            f"take the {SUFFIX} file of the same model, or convert it with a tool that you trust"
        )


def _starts_as_pickle(start: bytes, size: int) -> bool:
    """Whether a file begins as a zip archive (``torch.save``) or as a bare pickle of protocol 2 to 5.

    A safetensors file may begin with the same two bytes, those of a header of 640 bytes: its header tells it apart.
    """
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if start[_LENGTH_BYTES:] == b"{" and length <= size - _LENGTH_BYTES:
        return False
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"))


def _no_safetensors(path: Path, size: int, length: int) -> str:
    if size == 0:
        return f"{path} is empty; get the file again"
    if length > LARGEST_HEADER:
        return f"{path} is not a safetensors file: its header would be {length / 1e9:.3g} GB; get the file again"
    return f"{path} is cut off: it has {size} bytes, less than its header alone; get the file again"


def _checked(path: Path, content: object, stored: int) -> Header:
    damaged = ModelError(f"{path} is damaged: its header is not that of a safetensors file; get the file again")
    if not isinstance(content, dict):
        raise damaged
    metadata = content.pop("__metadata__", {})
    if len(content) > MOST_TENSORS:
        raise ModelError(f"{path} is not a model's file: it names {len(content)} tensors; get the file again")
    shapes, end = {}, 0
    for name, tensor in content.items():
        shape, offsets = (tensor.get(key) if isinstance(tensor, dict) else None for key in ("shape", "data_offsets"))
        if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
            raise damaged
        shapes[name] = tuple(shape)
        end = max(end, *offsets)
    if end > stored:
        raise ModelError(
            f"{path} is cut off: {stored} bytes of weights are there, {end} are named in it; get the file again"
        )
    metadata = metadata.items() if isinstance(metadata, dict) else ()
    return Header(shapes, {key: text for key, text in metadata if isinstance(text, str)})


def _are_sizes(numbers: object) -> TypeGuard[list[int]]:
    """Whether this is a list of whole numbers from 0 that fit a file; JSON has true, 1e999 and Infinity as well."""
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < _LARGEST_NUMBER for n in numbers)


def open_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of the safetensors file ``path`` by name; each is read from the disk where it is first used.

    The file must stay as it is while they are in use. Their numbers have not been looked at: see ``check_finite``.

    Raises:
        ModelError: the file is no sound safetensors file.
    """
    with explained(str(path)):
        from safetensors.torch import load_file

        return load_file(path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of the safetensors file ``path`` by name, in memory of their own; all numbers are finite.

    Raises:
        ModelError: the file is no sound safetensors file, or holds NaN or infinity.
    """
    state = open_tensors(path)
    check_finite(path, state)
    return {name: tensor.clone() for name, tensor in state.items()}


def sound_state(files: Iterable[Path]) -> dict[str, torch.Tensor]:
    """All weights in these files, by name, sound and finite.

    Raises:
        ModelError: see ``read_header`` and ``check_finite``.
    """
    state: dict[str, torch.Tensor] = {}
    for path in files:
        read_header(path)
        tensors = open_tensors(path)
        check_finite(path, tensors)
        state |= tensors
    return state


def check_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ``ModelError`` where one of ``tensors``, which were read from ``path``, holds NaN or infinity.

    One such weight is enough to make every picture black.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise ModelError(f"{path} has numbers that are not finite in {name}; get the file again")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no number of ``tensor`` is NaN or infinite, in one pass."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:  # torch finds no extremes in float8
        tensor = tensor.float()
    return all(bool(end.isfinite()) for end in tensor.aminmax())


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of the model's part in ``folder``: one, or the shards that an index there names.

    Every index in the folder is read before anything is opened, whether it is needed or not. Only plain file names
    that end in ``.safetensors`` are followed, so that no index leads to a pickle or out of the folder.

    Raises:
        ModelError: there are none, they are stored as pickle, or an index names what is not a shard or not there.
    """
    stored = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
    indexes = {path.name: _shards(path) for path in sorted(folder.glob(f"*{SUFFIX}.index*.json"))}
    absent = {}
    for variant in _VARIANTS:
        for stem in _STEMS:
            whole = f"{stem}{variant}{SUFFIX}"
            if whole in stored:
                return [folder / whole]
            for index in (f"{stem}{SUFFIX}.index{variant}.json", f"{whole}.index.json"):
                absent[index] = [name for name in indexes.get(index, ()) if name not in stored]
                if index in indexes and not absent[index]:
                    return [folder / name for name in indexes[index]]
    if len(stored) == 1 and not indexes:
        return [folder / stored[0]]
    if not stored and any(path for suffix in PICKLES for path in folder.glob(f"*{suffix}")):
        raise ModelError(
            f"{folder} holds its weights as pickle, which can run code, so it is not opened; "
            "convert it to safetensors or take a model that is stored so"
        )
    for index, names in absent.items():
        if names:
            raise ModelError(f"the model is incomplete: {index} names {names[0]}, which is not in {folder}")
    if not stored:
        raise ModelError(f"the model is incomplete: {folder} holds no {SUFFIX} file")
    raise ModelError(
        f"{folder} holds {len(stored)} {SUFFIX} files, and none of them is called {_STEMS[0]}{SUFFIX} or "
        f"{_STEMS[1]}{SUFFIX}, nor does an index say which belong together; get the model again"
    )


def _shards(index: Path) -> list[str]:
    """The names of the files that ``index`` names, in order. Raises ``ModelError`` where one is no plain shard."""
    damaged = ModelError(f"the model is damaged: {index} is not an index of weights; get the file again")
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged from error
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise damaged
    names = sorted(set(named.values()))
    for name in names:
        if not name.endswith(SUFFIX) or any(sign in name for sign in "/\\:\0") or name.startswith("."):
            raise ModelError(
                f"{index} names {name!r} as a file of weights; only {SUFFIX} files in its own folder are opened"
            )
    return names


def unused_note(source: str, unused: Sequence[str], total: int, why: str) -> str:
    """The sentence that says how many of the ``total`` tensors in ``source`` are left out, one of them by name."""
    which = unused[0] if len(unused) == 1 else f"such as {unused[0]}"
    return f"{source}: {len(unused)} of {total} tensors {'is' if len(unused) == 1 else 'are'} not used ({which}): {why}"
