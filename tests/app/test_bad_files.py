"""Damaged, wrong and hostile files offered to a running stream: one sentence each, and it goes on as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.status import SessionState
from tests.app.fakes import FakeSource, ListSink, until
from tests.tiny_model import write_tiny_model

_LORA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_{}.weight"


def tensors(path: Path, **shapes: tuple[int, ...]) -> None:
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, path)


def cut(path: Path) -> None:
    tensors(path, **{_LORA.format("down"): (4, 16), _LORA.format("up"): (16, 4)})
    path.write_bytes(path.read_bytes()[:-40])


# What is written, and what is said of it: as a model, as a LoRA, as an embedding.
FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "empty": (lambda path: path.write_bytes(b""), ("is empty",) * 3),
    "cut off": (cut, ("is cut off",) * 3),
    "nonsense": (lambda path: path.write_bytes((40).to_bytes(8, "little") + b"x" * 80), ("header is not valid",) * 3),
    "huge header": (
        lambda path: path.write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
        ("header would be 9.22e+09 GB",) * 3,
    ),
    "pickle": (lambda path: path.write_bytes(b"\x80\x02}q\x00." + bytes(20)), ("as pickle, which can run code",) * 3),
    "another family": (
        lambda path: tensors(path, **{_LORA.format("down"): (4, 2048), _LORA.format("up"): (16, 4)}),
        ("is a LoRA: load a model", "was made for SDXL", "is no textual inversion"),
    ),
    "another kind": (
        lambda path: tensors(path, emb_params=(2, 768)),
        ("is a textual inversion", "is not a LoRA that is known here", "was made for another model"),
    ),
    "missing": (lambda _: None, ("there is no model", "there is no LoRA", "there is no embedding")),
}


class Watcher(ListSink):
    """Keeps one picture of each input, and sees that it never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, np.ndarray] = {}
        self.shown = 0
        self.disturbed: list[int] = []

    def write(self, frame: Frame) -> None:
        """Compare ``frame`` with the picture made of the same input before."""
        assert frame.original is not None
        before = self.known.setdefault(int(frame.original.pixels[0, 0, 0]), frame.pixels)
        # The first frame fills all slots at once: its picture may be rounded otherwise.
        if np.abs(before.astype(int) - frame.pixels).max() > 1:
            self.disturbed.append(frame.index)
        self.shown += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_bad_files_do_not_disturb_a_running_stream(folder: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    source = FakeSource(count=None, live=True, script=lambda _: time.sleep(0.002))
    settings = Settings(model=str(folder), device="cpu", dtype="float32", acceleration="eager", reprojection="off")
    with Session(source, replace(settings, width=64, height=64), [watcher]) as session:
        until(lambda: watcher.shown > 3)
        plain = session.settings
        for name, (write, words) in FILES.items():
            path = tmp_path / f"{name}.safetensors"
            write(path)
            offers = (
                replace(plain, model=str(path)),
                replace(plain, stream=replace(plain.stream, loras=str(path))),
                replace(plain, stream=replace(plain.stream, embeddings=str(path))),
            )
            for offer, expected in zip(offers, words, strict=True):
                told = len(session.notices)
                session.update(offer)
                until(lambda told=told: len(session.notices) > told)
                shown = watcher.shown
                until(lambda shown=shown: watcher.shown > shown + 3)
                (notice,) = session.notices[told:]
                assert expected in notice.message, (name, notice.message)
                assert "goes on" in notice.message
                assert "\n" not in notice.message
                session.update(plain)
        assert session.state is SessionState.RUNNING
        assert session.model is not None
        assert session.model.name == folder.name
    assert not watcher.disturbed
