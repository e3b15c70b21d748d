"""The segmenter is the network that it was converted from, and any backend runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipeline import Stream, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.backends.openvino.package import is_installed
from pipeline.masking import segmenter
from pipeline.masking.person import person_mask
from pipeline.masking.segmenter import MaskError, PersonNetwork, placed_segmenter
from tests.pipeline.masking.figure import figure
from tests.tiny_model import tiny_model

CPU = torch.device("cpu")
# Means over squares of 32 pixels of what the file of TensorFlow Lite answers to ``figure()``: run by OpenVINO 2026.4.1
# in float32, with a transposed convolution and a bias in the place of its one special operation.
EXPECTED = (
    (0.0, 0.0, 0.0, 0.008, 0.097, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.019, 0.808, 1.0, 0.609, 0.0, 0.0),
    (0.0, 0.0, 0.029, 0.932, 1.0, 0.745, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.86, 1.0, 0.645, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.393, 0.987, 0.197, 0.0, 0.0),
    (0.0, 0.0, 0.321, 0.975, 1.0, 0.916, 0.166, 0.0),
    (0.0, 0.038, 0.922, 1.0, 1.0, 1.0, 0.733, 0.0),
    (0.0, 0.23, 1.0, 1.0, 1.0, 1.0, 0.987, 0.027),
)


def test_it_answers_as_the_file_that_it_was_converted_from() -> None:
    masks = PersonNetwork(CPU).module()(squares=figure()[None])["masks"]
    means = torch.nn.functional.avg_pool2d(masks, 32)[0, 0]
    assert torch.allclose(means, torch.tensor(EXPECTED), atol=1e-3)


def test_no_row_looks_at_another() -> None:
    network = PersonNetwork(CPU).module()
    one, other = figure(), figure(shift=40)
    together = network(squares=torch.stack([one, other]))["masks"]
    assert torch.allclose(together[:1], network(squares=one[None])["masks"], atol=1e-5)
    assert torch.allclose(together[1:], network(squares=other[None])["masks"], atol=1e-5)


@pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed")
def test_openvino_answers_as_pytorch(tmp_path: Path) -> None:
    from pipeline.backends.engine_cache import EngineCache
    from pipeline.backends.openvino.backend import OpenVinoBackend

    model, squares = tiny_model(), torch.stack([figure(), figure(shift=40)])
    backend, network = OpenVinoBackend(model, cache=EngineCache(tmp_path)), PersonNetwork(CPU)
    backend.patient = True
    try:
        found = backend.run(network, {"squares": squares}, {})["masks"]
        assert backend.ready(network, {"squares": squares}, {}), backend.news()
    finally:
        backend.close()
    expected = EagerBackend(model).run(network, {"squares": squares}, {})["masks"]
    assert float((found - expected).abs().mean()) < 1e-3


def test_a_mask_has_the_size_of_its_picture() -> None:
    network, backend = PersonNetwork(CPU), EagerBackend(tiny_model())
    masks = person_mask(torch.stack([figure(120, 160)] * 2), network, backend)
    assert masks.shape == (2, 1, 120, 160)
    assert masks[0, 0, 45, 87] == 1  # the face
    assert masks[0, 0, 30, 10] == 0  # the wall


@pytest.mark.parametrize("damage", ["missing", "cut off", "other"])
def test_without_its_weights_it_says_so_in_one_sentence_and_the_stream_goes_on(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "person.safetensors"
    if damage == "cut off":
        path.write_bytes(segmenter.WEIGHTS.read_bytes()[:1000])
    elif damage == "other":
        shutil.copy(next(segmenter.WEIGHTS.parents[1].glob("vitrail-mini/vae/*.safetensors")), path)
    monkeypatch.setattr(segmenter, "WEIGHTS", path)
    placed_segmenter.cache_clear()
    try:
        with pytest.raises(MaskError, match="install Vitrail again"):
            PersonNetwork(CPU)
        stream = Stream(tiny_model(), StreamConfig(prompt="a"))
        notes = stream.configure(StreamConfig(prompt="a", only="person"))
        assert len(notes) == 1
        assert "finds people" in notes[0]
        frame = figure(64, 64)
        assert stream(frame).image.shape == (1, 3, 64, 64)
        assert stream.configure(StreamConfig(prompt="a", only="background")) == []  # once is enough
    finally:
        placed_segmenter.cache_clear()
