"""Finding and loading models: what works, and one clear sentence for everything that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import ModelError, Stream, StreamConfig, load_model
from pipeline.models import EMBEDDED_PATH
from pipeline.models.hub import looks_like_hub_id
from tests.tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny", sees_input=True, prediction_type="v_prediction")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_is_loaded_and_described(folder: Path) -> None:
    model = load_model(str(folder), device="cpu", dtype="float32")
    assert (model.name, model.device.type, model.dtype, model.default_size) == ("tiny", "cpu", torch.float32, 64)
    assert model.sees_input
    assert model.schedule.prediction_type == "v_prediction"
    assert Stream(model, StreamConfig())(torch.rand(3, 32, 32)).image.shape == (1, 3, 32, 32)


def test_weights_stored_as_fp16_variant_are_found(folder: Path) -> None:
    for part in ("unet", "vae"):
        path = folder / part / "diffusion_pytorch_model.safetensors"
        path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_model(str(folder), device="cpu").unet is not None


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "not a diffusers model folder"),
    "index is not JSON": (lambda f: (f / "model_index.json").write_text("{"), "model_index.json cannot be read"),
    "index is a list": (lambda f: (f / "model_index.json").write_text("[]"), "does not hold a JSON object"),
    "other denoiser": (
        lambda f: edit_json(f / "model_index.json", unet=["diffusers", "FluxTransformer2DModel"]),
        "denoiser of kind FluxTransformer2DModel",
    ),
    "no unet": (lambda f: (f / "unet").rename(f / "unet-gone"), "unet"),
    "no unet weights": (lambda f: next((f / "unet").glob("*.safetensors")).unlink(), "holds no .safetensors file"),
    "pickle": (
        lambda f: next((f / "unet").glob("*.safetensors")).rename(f / "unet" / "diffusion_pytorch_model.bin"),
        "as pickle, which can run code",
    ),
    "pickled text encoder": (
        lambda f: next((f / "text_encoder").glob("*.safetensors")).rename(f / "text_encoder" / "pytorch_model.bin"),
        "as pickle, which can run code",
    ),
    "truncated weights": (lambda f: cut(next((f / "unet").glob("*.safetensors"))), "is cut off: [0-9]+ bytes"),
    "empty weights": (lambda f: next((f / "vae").glob("*.safetensors")).write_bytes(b""), "is empty; get the file"),
    "pickle in disguise": (
        lambda f: next((f / "unet").glob("*.safetensors")).write_bytes(b"PK\x03\x04" + bytes(60)),
        "as pickle, which can run code",
    ),
    "header of nonsense": (
        lambda f: next((f / "unet").glob("*.safetensors")).write_bytes((40).to_bytes(8, "little") + b"x" * 80),
        "its header is not valid",
    ),
    "huge header": (
        lambda f: next((f / "unet").glob("*.safetensors")).write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
        "its header would be 9.22e\\+09 GB",
    ),
    "other autoencoder": (
        lambda f: edit_json(f / "vae" / "config.json", _class_name="AutoencoderDC"),
        "of kind AutoencoderDC",
    ),
    "parts that do not fit": (
        lambda f: edit_json(f / "unet" / "config.json", in_channels=5),
        r"does not fit its configuration: conv_in.weight has the shape \(16, 8, 3, 3\)",
    ),
    "unknown prediction": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="flow"),
        "prediction type is 'flow'",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer").rename(f / "gone"), "tokenizer"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_is_one_sentence(breakage: str, folder: Path) -> None:
    do_break, expected = BREAKAGES[breakage]
    do_break(folder)
    with pytest.raises(ModelError, match=expected) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_what_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        load_model(str(tmp_path / "nowhere"), device="cpu")
    single = tmp_path / "model.safetensors"
    single.write_bytes(b"x")
    with pytest.raises(ModelError, match="is cut off"):
        load_model(str(single), device="cpu")


def test_a_hub_name_without_a_connection_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="is not whole in the local cache and the hub cannot be reached"):
        load_model("vitrail-tests/no-such-model", device="cpu")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [("stabilityai/sd-turbo", True), ("./model", False), ("/abs/model", False), ("a/b/c", False), ("plain", False)],
)
def test_hub_names(spec: str, expected: bool) -> None:
    assert looks_like_hub_id(spec) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "abacus"}, "the device is 'abacus'; this machine has"),
        ({"device": "cpu", "dtype": "int3"}, "the number format is 'int3'"),
    ],
)
def test_devices_and_formats_that_are_not_there(options: dict[str, Any], expected: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=expected):
        load_model(str(folder), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_in_words_where_there_is_none(folder: Path) -> None:
    with pytest.raises(ValueError, match="torch finds no cuda device here"):
        load_model(str(folder), device="cuda")


def test_the_embedded_model_is_small_and_holds_no_pickle() -> None:
    files = [path for path in EMBEDDED_PATH.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_the_embedded_model_loads_and_sees_the_input() -> None:
    model = load_model(device="cpu")
    assert model.name == "embedded"
    assert model.sees_input
    assert model.autoencoder.is_tiny
    assert model.default_size == 256
