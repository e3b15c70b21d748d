"""A start that an earlier process has prepared shows its first pictures before it has read the model."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pipeline
from pipeline import Model, ModelError, Stream, StreamConfig, load_model
from pipeline.backends import accelerate
from pipeline.backends.openvino.package import is_installed
from pipeline.models.residency import AUTOENCODER, DENOISER, TEXT
from pipeline.models.start_record import record_cache
from tests.adapters import write_lora
from tests.checkpoints import write_model, write_original
from tests.tiny_model import write_tiny_model

openvino = pytest.mark.skipif(not is_installed(), reason="needs OpenVINO")

# Prints what was imported of the libraries that take seconds and on which thread, and the pictures.
SCRIPT = """
import json, sys, threading
HEAVY = ("diffusers", "transformers", "torch._dynamo", "torch._inductor", "sympy", "scipy")
found = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in HEAVY):
            found.append((name, threading.current_thread().name))
sys.meta_path.insert(0, Watch())
import torch
torch.set_num_threads(1)
from pipeline import Stream, StreamConfig, load_model
from pipeline.backends import accelerate
model = load_model(sys.argv[1], device="cpu", dtype="float32")
assert not model.modules.made
stream = Stream(model, StreamConfig(**json.loads(sys.argv[2])), accelerate(model, "openvino"))
pictures = [stream(torch.full((3, 64, 64), 0.1 * number)).image.tolist() for number in range(3)]
assert stream.backend.news() == []
print(json.dumps({"imported": found, "pictures": pictures}))
stream.backend.close()
"""
SETTINGS = {"prompt": "a (red:1.3) house", "steps": 2, "guidance": "full", "negative_prompt": "blue"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model, and a cache in which nothing is."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    return write_tiny_model(tmp_path / "tiny")


def load(folder: Path) -> Model:
    return load_model(str(folder), device="cpu", dtype="float32")


def prepare(folder: Path) -> Model:
    """What a process leaves behind that has run the model: its digests, as a backend asks for them, and its prompts."""
    model = load(folder)
    assert model.modules.made
    for part in (DENOISER, AUTOENCODER):
        assert model.digest(part, lambda part=part: f"digest of the {part}") == f"digest of the {part}"
    Stream(model, StreamConfig(**SETTINGS))
    written()
    return model


def written() -> None:
    """Wait until what is written beside is on the disk."""
    for thread in threading.enumerate():
        if thread.name in ("vitrail-prompts", "vitrail-model-rest"):
            thread.join()


def pictures_of(model: Model, **settings: object) -> torch.Tensor:
    stream = Stream(model, StreamConfig(**{**SETTINGS, **settings}))  # type: ignore[arg-type]
    pictures = torch.cat([stream(torch.full((3, 64, 64), 0.1 * number)).image for number in range(3)])
    stream.close()
    written()
    return pictures


@openvino
def test_the_first_pictures_import_no_library_of_models(folder: Path) -> None:
    model = load(folder)
    backend = accelerate(model, "openvino")
    stream = Stream(model, StreamConfig(**SETTINGS), backend)  # type: ignore[arg-type]
    for _ in range(3):
        stream(torch.zeros(3, 64, 64))
    backend.wait()
    again = Stream(model, StreamConfig(**SETTINGS), backend)  # type: ignore[arg-type]
    expected = [again(torch.full((3, 64, 64), 0.1 * number)).image for number in range(3)]
    backend.close()
    written()
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), json.dumps(SETTINGS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {thread for _, thread in said["imported"]} <= {"vitrail-model-rest"}, said["imported"][:3]
    assert torch.allclose(torch.tensor(said["pictures"]), torch.stack(expected), atol=1e-6)


def test_a_recorded_model_is_the_same_in_every_fact(folder: Path) -> None:
    whole = prepare(folder)
    later = load(folder)
    for name in ("name", "default_size", "defaults", "family", "few_step", "grid", "raw_input", "notes", "bounds"):
        assert getattr(later, name) == getattr(whole, name), name
    assert (later.sees_input, later.sized, later.guidance_width) == (whole.sees_input, whole.sized, 0)
    assert later.unet_weights == whole.unet_weights == sum(one.numel() for one in whole.unet.parameters())
    assert later.autoencoder.coding == whole.autoencoder.coding
    assert (later.autoencoder.factor, later.autoencoder.is_tiny) == (8, True)


@pytest.mark.parametrize("kind", ["sd21", "sdxl"])
@pytest.mark.parametrize("layout", ["folder", "file"])
def test_every_family_and_layout_starts_from_its_record(
    kind: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    path = write_model(tmp_path / "model", kind)
    if layout == "file":
        path = write_original(path, tmp_path / "single" / "model.safetensors", kind)

    def loaded() -> Model:
        return load_model(str(path), device="cpu", dtype="float32", autoencoder="full")

    whole, solver = loaded(), "dpmpp-2m"  # LCM's would ask for its LoRA
    expected = pictures_of(whole, solver=solver)
    whole.digest(DENOISER, lambda: "that of the UNet")
    later = loaded()
    Stream(later, StreamConfig(**SETTINGS, solver=solver))  # type: ignore[arg-type]
    assert not later.modules.made
    assert (later.family, later.defaults, later.notes) == (whole.family, whole.defaults, whole.notes)
    assert (later.sized, later.autoencoder.coding) == (kind == "sdxl", whole.autoencoder.coding)
    assert torch.equal(pictures_of(later, solver=solver), expected)


def test_prompts_are_found_again_and_the_modules_are_read_beside(folder: Path) -> None:
    expected = pictures_of(prepare(folder))
    later = load(folder)
    stream = Stream(later, StreamConfig(**SETTINGS))  # type: ignore[arg-type]
    assert not later.modules.made, "the prompts were encoded anew"
    stream(torch.zeros(3, 64, 64))
    written()
    assert later.modules.made
    assert torch.equal(pictures_of(later), expected)


def test_another_prompt_reads_the_text_encoder(folder: Path) -> None:
    expected = pictures_of(prepare(folder), prompt="green")
    assert torch.equal(pictures_of(load(folder), prompt="green"), expected)
    (folder.parent / "cache" / "prompts").rename(folder.parent / "gone")
    assert torch.equal(pictures_of(load(folder), prompt="green"), expected)


def test_a_lora_from_the_start_is_in_the_pictures(folder: Path, tmp_path: Path) -> None:
    whole = prepare(folder)
    path = tmp_path / "lora.safetensors"
    write_lora(path, whole, "peft")
    plain, expected = pictures_of(whole), pictures_of(whole, loras=str(path))
    assert not torch.equal(plain, expected)
    assert torch.equal(pictures_of(load(folder), loras=str(path)), expected)
    assert torch.equal(pictures_of(load(folder)), plain), "what a LoRA has made was kept as the model's own"


def rewrite_weights(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(path).items()}, path)


def rewrite_within_the_same_times(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    before = path.stat()
    rewrite_weights(folder)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_shard(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")


@pytest.mark.parametrize("change", [rewrite_weights, rewrite_within_the_same_times, add_shard])
def test_a_record_of_other_files_is_not_used(folder: Path, change: Callable[[Path], None]) -> None:
    old = prepare(folder).prompts(SETTINGS["prompt"])  # type: ignore[arg-type]
    change(folder)
    model = load(folder)
    assert model.modules.made
    assert model.record is not None
    assert model.record.digests == {}
    assert torch.equal(model.prompts(str(SETTINGS["prompt"])), old) == (change is add_shard)


def test_files_behind_a_link_to_a_folder_are_watched_too(folder: Path, tmp_path: Path) -> None:
    (folder / "text_encoder").rename(tmp_path / "elsewhere")
    (folder / "text_encoder").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    old = prepare(folder).prompts(str(SETTINGS["prompt"]))
    assert not load(folder).modules.made, "nothing has changed yet"
    rewrite_weights(folder)
    model = load(folder)
    assert model.modules.made
    assert not torch.equal(model.prompts(str(SETTINGS["prompt"])), old)


def test_files_that_change_before_they_are_read_are_refused(folder: Path) -> None:
    prepare(folder)
    later = load(folder)
    rewrite_weights(folder)
    with pytest.raises(ModelError, match="have changed since it was loaded; load it again"):
        _ = later.unet


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"sources": [], "files": [], "facts": {}}'])
def test_a_record_that_makes_no_sense_counts_as_missing(folder: Path, content: bytes) -> None:
    record = prepare(folder).record
    assert record is not None
    record_cache().store(record.key, content)
    assert load(folder).modules.made


def test_a_digest_of_changed_weights_is_not_recorded(folder: Path) -> None:
    model = load(folder)
    with model.residency.changing(DENOISER, TEXT):
        pass
    assert model.digest(DENOISER, lambda: "of other weights") == "of other weights"
    assert model.digest(AUTOENCODER, lambda: "as it is") == "as it is"
    later = load(folder)
    assert later.digest(DENOISER, lambda: "of the files") == "of the files"
    assert later.digest(AUTOENCODER, lambda: "never asked") == "as it is"


def test_weights_that_change_while_their_digest_is_taken_leave_no_record(folder: Path) -> None:
    model = load(folder)

    def changed_meanwhile() -> str:
        with model.residency.changing(DENOISER):
            return "half of it"

    model.digest(DENOISER, changed_meanwhile)
    assert load(folder).modules.made


@pytest.mark.parametrize("enabled", [True, False])
def test_an_import_leaves_pythons_collector_as_it_was(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        assert pipeline.__getattr__("Stream") is Stream
        with pytest.raises(AttributeError, match="has no attribute 'Dream'"):
            pipeline.__getattr__("Dream")
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()


def test_options_have_records_of_their_own(folder: Path) -> None:
    prepare(folder)
    assert load_model(str(folder), device="cpu", dtype="bfloat16").modules.made
    assert load_model(str(folder), device="cpu", dtype="float32", memory="sliced").modules.made
