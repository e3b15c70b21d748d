"""Files of weights, told apart by what they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from app.settings import Settings
from app.weights_file import WeightsError, with_weights
from pipeline.adapter_list import parse_loras
from pipeline.shape_list import Shape, hint_of_name, parse_shapes


def written(path: Path, *names: str) -> Path:
    save_file({name: torch.zeros(2, 2) for name in names}, path)
    return path


def test_a_lora_is_added_to_those_that_are_there(tmp_path: Path) -> None:
    kohya = written(tmp_path / "a.safetensors", "lora_unet_down.lora_down.weight", "lora_unet_down.lora_up.weight")
    peft = written(tmp_path / "b.safetensors", "unet.down.lora_A.weight", "unet.down.lora_B.weight")
    settings = Settings()
    changes, what = with_weights(settings, kohya)
    assert (changes, what) == ({"loras": str(kohya)}, "LoRA")
    settings = replace(settings, stream=replace(settings.stream, loras=f"{kohya}:0.5"))
    assert with_weights(settings, peft)[0] == {"loras": f"{kohya}:0.5; {peft}"}
    assert with_weights(settings, kohya)[0] == {"loras": f"{kohya}:0.5"}  # it is there, with its strength


def test_a_learned_word_and_a_model_are_known(tmp_path: Path) -> None:
    word = written(tmp_path / "word.safetensors", "clip_l", "clip_g")
    assert with_weights(Settings(), word) == ({"embeddings": str(word)}, "learned word")
    names = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight", "alphas")
    model = written(tmp_path / "model.safetensors", *names)
    assert with_weights(Settings(), model) == ({"model": str(model)}, "model")


def test_what_keeps_the_shape_or_shows_a_picture_is_known(tmp_path: Path) -> None:
    net = written(tmp_path / "control_v11f1p_sd15_depth.safetensors", "control_model.input_hint_block.0.weight")
    adapter = written(tmp_path / "t2i;sketch.safetensors", "body.0.block1.weight", "conv_in.weight")
    settings = Settings()
    changes, what = with_weights(settings, net)
    assert (changes, what) == ({"keep_shape": f"depth:0.8 @ {net}"}, "ControlNet for depth")
    settings = replace(settings, stream=replace(settings.stream, **changes))
    assert with_weights(settings, net)[0] == changes  # it is there
    changes, what = with_weights(settings, adapter)
    assert what == "T2I-Adapter for sketch"
    kept = parse_shapes(changes["keep_shape"])
    assert kept == (Shape("depth", 0.8, str(net)), Shape("sketch", 0.8, str(adapter)))
    look = written(tmp_path / "ip-adapter.safetensors", "image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight")
    assert with_weights(Settings(), look) == ({"look_model": str(look)}, "IP-Adapter")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("control_v11p_sd15_openpose.safetensors", "pose"),
        ("diffusers/controlnet-canny-sdxl-1.0", "canny"),
        ("control_v11p_sd15_softedge_fp16", "soft-edge"),
        ("t2iadapter_sketch_sd15v2", "sketch"),
        ("control_scribble", "sketch"),
        ("controlnet-hed", "soft-edge"),
        ("shedding", "canny"),
        ("mine.safetensors", "canny"),
    ],
)
def test_the_hint_is_told_by_the_name(name: str, hint: str) -> None:
    assert hint_of_name(name) == hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x80\x02 pickle", "holds its weights as pickle"),
        (b"\xff" * 64, "is not a safetensors file"),
        (b"\x10" + b"\0" * 7 + b'{"a": {"dtype"', "is cut off|is damaged"),
    ],
)
def test_what_is_no_such_file_is_said_in_a_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        with_weights(Settings(), path)
    with pytest.raises(WeightsError, match="cannot be read"):
        with_weights(Settings(), tmp_path / "missing.safetensors")


def test_a_file_of_any_name_is_added_once(tmp_path: Path):
    settings = Settings()
    names = ["a;b.safetensors", "c.safetensors", 'the "best":0.5']
    paths = [written(tmp_path / name, "x.lora_A.weight") for name in names]
    for path in [*paths, *paths]:
        changes, what = with_weights(settings, path)
        assert what == "LoRA"
        settings = Settings(stream=replace(settings.stream, **changes))
    assert parse_loras(settings.stream.loras) == tuple((str(path), 1.0) for path in paths)
