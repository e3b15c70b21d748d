"""Finding and loading models: what works, and one clear sentence for everything that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

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
    "empty tokenizer": (
        lambda f: [path.unlink() for path in (f / "tokenizer").iterdir()],
        "has no vocabulary: vocab.json and merges.txt are missing",
    ),
    "half a tokenizer": (lambda f: (f / "tokenizer" / "merges.txt").unlink(), "has no vocabulary"),
    "tokenizer of another model": (
        lambda f: edit_json(f / "tokenizer" / "vocab.json", **{f"more{n}": 600 + n for n in range(9)}),
        "knows [0-9]+ tokens, but the text encoder only 514",
    ),
    "tokenizer without ends": (
        lambda f: edit_json(f / "tokenizer" / "vocab.json", **{"<|endoftext|>": 99999}),
        "the tokenizer in .* (is damaged|knows|cannot be loaded)",
    ),
    "heads of no width": (lambda f: edit_json(f / "unet" / "config.json", attention_head_dim=0), "cannot be loaded"),
    "groups of none": (lambda f: edit_json(f / "unet" / "config.json", norm_num_groups=0), "cannot be loaded"),
    "endless layers": (
        lambda f: edit_json(f / "unet" / "config.json", layers_per_block=10**7),
        "has 10000000 for layers_per_block, but there are only",
    ),
    "endless transformers": (
        lambda f: edit_json(f / "unet" / "config.json", transformer_layers_per_block=[[1], [10**9]]),
        "has 1000000000 for transformer_layers_per_block",
    ),
    "endless text encoder": (
        lambda f: edit_json(f / "text_encoder" / "config.json", num_hidden_layers=10**8),
        "has 100000000 for num_hidden_layers",
    ),
    "endless widths": (
        lambda f: edit_json(f / "unet" / "config.json", block_out_channels=[2**40, 2**40]),
        "(cannot be loaded|does not fit)",
    ),
    "no side": (lambda f: edit_json(f / "unet" / "config.json", sample_size=-1), "sample_size is -1; it must be"),
    "endless side": (lambda f: edit_json(f / "unet" / "config.json", sample_size=10**9), "sample_size is 1000000000"),
    "three sides": (lambda f: edit_json(f / "unet" / "config.json", sample_size=[8, 8, 8]), "or two of them"),
    "missing weights": (
        lambda f: drop(f / "unet", "conv_in.bias"),
        "1 of its [0-9]+ tensors are missing, such as conv",
    ),
    "missing words": (
        lambda f: drop(f / "text_encoder", None),
        "text_encoder .* is incomplete: 1 of its [0-9]+ tensors",
    ),
    "endless schedule": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=10**8),
        "num_train_timesteps is 100000000; it must be a whole number from 1 to 100000",
    ),
    "empty schedule": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=0),
        "num_train_timesteps is 0",
    ),
    "infinite schedule": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", num_train_timesteps=float("inf")),
        "num_train_timesteps is inf",
    ),
    "betas of more than all": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", trained_betas=[0.1, 1.5]),
        "its betas must be",
    ),
    "a beta of 400 digits": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", beta_end=10**400),
        "the noise schedule of .* cannot be used",
    ),
    "autoencoder's scale": (
        lambda f: edit_json(f / "vae" / "config.json", scaling_factor="x"),
        "scaling_factor is 'x', not a number",
    ),
    **{
        f"index with {part} {value!r}": (
            lambda f, part=part, value=value: edit_json(f / "model_index.json", **{part: value}),
            f"its model_index.json has .* for {part}, which must be",
        )
        for part, value in (
            ("unet", 5),
            ("unet", "x"),
            ("unet", ["a"]),
            ("unet", {"1": 2}),
            ("unet", [1, 2]),
            ("text_encoder_2", 7),
            ("text_encoder_2", ["transformers"]),
        )
    },
}


def drop(part: Path, name: str | None) -> None:
    """Take a tensor out of the weights of ``part``: the first one, or that of a name."""
    path = next(part.glob("*.safetensors"))
    state = load_file(path)
    del state[name or min(state)]
    save_file(state, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_model_is_one_sentence(breakage: str, folder: Path) -> None:
    do_break, expected = BREAKAGES[breakage]
    do_break(folder)
    with pytest.raises(ModelError, match=expected) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("sample_size", "side"), [([8, 8], 64), ([8, 16], 64), (16, 128), (None, 512)])
def test_the_size_of_a_model_may_be_one_number_or_two(sample_size: object, side: int, folder: Path) -> None:
    edit_json(folder / "unet" / "config.json", sample_size=sample_size)
    assert load_model(str(folder), device="cpu").default_size == side


def test_a_tokenizer_that_does_not_say_its_length_has_that_of_its_text_encoder(folder: Path) -> None:
    path = folder / "tokenizer" / "tokenizer_config.json"
    described = json.loads(path.read_text())
    del described["model_max_length"]
    path.write_text(json.dumps(described))
    assert load_model(str(folder), device="cpu").prompts("a cat").shape[1] == 77


def test_a_model_is_told_by_the_name_of_the_hubs_cache_but_not_by_the_folders_above_it(tmp_path: Path) -> None:
    for place, few_step in (
        ("models--stabilityai--sd-turbo/snapshots/b5f6", True),
        ("turbo/mine", False),
    ):
        folder = write_tiny_model(tmp_path / place)
        edit_json(folder / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler")
        assert load_model(str(folder), device="cpu").few_step == few_step


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


@pytest.mark.parametrize(("name", "content"), [("vocab.json", b"{}"), ("merges.txt", b"\xff\xfe\x00\xd8")])
def test_a_tokenizer_that_cannot_read_a_word_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    """And not at the first prompt of a running session."""
    folder = write_tiny_model(tmp_path / "tiny")
    (folder / "tokenizer" / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"the tokenizer in .* (cannot be loaded|is damaged)") as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
