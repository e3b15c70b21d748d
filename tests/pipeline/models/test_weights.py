"""Files of weights before they are loaded: what is refused, and that nothing but plain safetensors files is opened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import ModelError, load_model
from pipeline.models import weights
from pipeline.models.weights import check_finite, read_header, read_tensors, weight_files
from tests.tiny_model import write_tiny_model


def file_of(path: Path, header: str, body: int = 8) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(body))
    return path


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[1],"data_offsets":[0,Infinity]}',
        '{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[true],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":"11","data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[1' + "0" * 400 + '],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[1],"data_offsets":[4]}',
        '{"dtype":"F32","shape":[1]}',
        "[]",
    ],
)
def test_a_header_of_odd_numbers_is_one_sentence(entry: str, tmp_path: Path) -> None:
    path = file_of(tmp_path / "x.safetensors", f'{{"a":{entry}}}')
    with pytest.raises(ModelError, match="its header is not that of a safetensors file"):
        read_header(path)


def test_a_header_of_too_many_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({name: torch.zeros(1) for name in "abc"}, tmp_path / "x.safetensors")
    monkeypatch.setattr(weights, "MOST_TENSORS", 2)
    with pytest.raises(ModelError, match="it names 3 tensors"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_header_whose_length_looks_like_a_pickle_is_read(protocol: int, tmp_path: Path) -> None:
    """A header of 640 bytes begins as a pickle of protocol 2 does."""
    length = 0x80 + 256 * protocol
    start = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    path = file_of(tmp_path / "x.safetensors", (start + "}").ljust(length))
    assert read_header(path).shapes == {"a": (2,)}
    path.write_bytes(bytes([0x80, protocol]) + b"}q\x00." + bytes(1000))
    with pytest.raises(ModelError, match="as pickle, which can run code"):
        read_header(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A pipe would wait for its writer for ever."""
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="is not a file"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_numbers_that_are_not_finite_are_found(dtype: torch.dtype, bad: float, tmp_path: Path) -> None:
    tensor = torch.linspace(-3, 3, 7)
    sound = {"a": tensor.to(dtype, copy=True), "whole": torch.arange(3), "none": torch.zeros(0, 2)}
    save_file(sound, tmp_path / "x.safetensors")
    assert read_tensors(tmp_path / "x.safetensors").keys() == sound.keys()
    tensor[4] = bad
    with pytest.raises(ModelError, match=r"x.safetensors has numbers that are not finite in b; get the file again"):
        check_finite(tmp_path / "x.safetensors", {**sound, "b": tensor.to(dtype)})


def spoil(path: Path) -> str:
    """One NaN in the last tensor of a file, whose name is given back."""
    state = load_file(path)
    name = max(name for name in state if state[name].is_floating_point() and state[name].numel() > 1)
    state[name].view(-1)[-1] = float("nan")
    save_file(state, path)
    return name


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_model_with_a_number_that_is_not_finite_is_refused(part: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    path = next((folder / part).glob("*.safetensors"))
    name = spoil(path)
    with pytest.raises(ModelError, match=f"{path.name} has numbers that are not finite in {name}; get the file again"):
        load_model(str(folder), device="cpu")


def test_weights_too_large_for_the_number_format_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    path = next((folder / "unet").glob("*.safetensors"))
    state = load_file(path)
    state["conv_in.bias"][0] = 1e6
    save_file(state, path)
    assert load_model(str(folder), device="cpu", dtype="float32").few_step
    with pytest.raises(ModelError, match=r"numbers in conv_in.bias that are too large for float16; choose another"):
        load_model(str(folder), device="cpu", dtype="float16")


INDEXES = ("model.safetensors.index.json", "model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json")


def sharded(part: Path, index: str, names: tuple[str, str] = ("a.safetensors", "b.safetensors")) -> Path:
    """Lay the weights of ``part`` out in two files of these names, as ``index`` says."""
    whole = next(part.glob("*.safetensors"))
    state = load_file(whole)
    whole.unlink()
    keys = sorted(state)
    halves = {names[0]: keys[::2], names[1]: keys[1::2]}
    for name, inside in halves.items():
        save_file({key: state[key] for key in inside}, part / name)
    write_index(part / index, {key: name for name, inside in halves.items() for key in inside})
    return part


def write_index(path: Path, weight_map: object) -> None:
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_in_shards_are_those_of_one_file(part: str, index: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    before = load_model(str(folder), device="cpu", dtype="float32")
    sharded(folder / part, index if part == "text_encoder" else index.replace("model", "diffusion_pytorch_model"))
    after = load_model(str(folder), device="cpu", dtype="float32")
    for old, new in ((before.unet, after.unet), (before.prompts.encoders[0].module, after.prompts.encoders[0].module)):
        assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in old.state_dict().items())


SHARDS = {
    "a pickle": "weights.bin",
    "outside": "../outside.safetensors",
    "outside on Windows": "..\\outside.safetensors",
    "a full path": "/outside.safetensors",
    "a drive": "C:outside.safetensors",
    "hidden": ".safetensors",
}


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("name", SHARDS.values(), ids=SHARDS)
def test_an_index_leads_to_nothing_but_plain_safetensors_files(
    name: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    whole = next((folder / part).glob("*.safetensors"))
    state = load_file(whole)
    torch.save(state, folder / part / "weights.bin")
    shutil.copy(whole, folder / "outside.safetensors")
    whole.rename(folder / part / "decoy.safetensors")
    write_index(folder / part / f"{whole.name}.index.json", dict.fromkeys(state, name))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is opened"))
    with pytest.raises(ModelError, match=r"only .safetensors files in its own folder are opened"):
        load_model(str(folder), device="cpu")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda f: (f / INDEXES[0]).write_text("{"), "is not an index of weights"),
    "a list": (lambda f: (f / INDEXES[0]).write_text("[]"), "is not an index of weights"),
    "no map": (lambda f: (f / INDEXES[0]).write_text("{}"), "is not an index of weights"),
    "numbers": (lambda f: write_index(f / INDEXES[0], {"a": 1}), "is not an index of weights"),
    "missing shard": (lambda f: (f / "b.safetensors").unlink(), "names b.safetensors, which is not in"),
    "cut shard": (lambda f: (f / "b.safetensors").write_bytes(b"x"), "b.safetensors is cut off"),
    "no index": (lambda f: (f / INDEXES[0]).unlink(), "holds 2 .safetensors files, and none of them is called"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_index_is_one_sentence(broken: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    change, words = BROKEN[broken]
    change(sharded(folder / "text_encoder", INDEXES[0]))
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_an_index_whose_shards_were_not_fetched_does_not_hide_another_variant(tmp_path: Path) -> None:
    """The hub's files are fetched in float16 alone where they are there, but every index is."""
    write_index(tmp_path / "model.safetensors.index.json", {"a": "model-00001-of-00002.safetensors"})
    save_file({"a": torch.zeros(1)}, tmp_path / "model.fp16.safetensors")
    assert weight_files(tmp_path) == [tmp_path / "model.fp16.safetensors"]


def test_a_model_does_not_read_its_file_after_it_is_loaded(tmp_path: Path) -> None:
    """Its weights are copies: a file that is overwritten meanwhile does not reach a running stream."""
    folder = write_tiny_model(tmp_path / "tiny")
    model = load_model(str(folder), device="cpu", dtype="float32")
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    for path in folder.rglob("*.safetensors"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xff" * (path.stat().st_size // 2))
    assert all(torch.equal(tensor, model.unet.state_dict()[name]) for name, tensor in before.items())


def test_weights_without_a_place_are_named(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny")
    for part in ("unet", "vae", "text_encoder"):
        path = next((folder / part).glob("*.safetensors"))
        save_file({**load_file(path), "ip_adapter.weight": torch.zeros(2)}, path)
    notes = list(load_model(str(folder), device="cpu").notes)
    assert [note for note in notes if "tensors is not used (ip_adapter.weight)" in note] == notes
    assert len(notes) == 3
