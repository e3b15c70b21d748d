"""The corpus: LoRAs and checkpoints, as trainers write them, and damaged, foreign or hostile ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import torch
from safetensors.torch import save, save_file

from tests.checkpoints import State, original_state, write_file, write_model
from tests.corpus_case import Case, Says, Values
from tests.tiny_model import write_tiny_model

QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OUT, NORM = QUERY.replace("to_q", "to_out.0"), "mid_block.attentions.0.norm"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
SIDE, RANK = 32, 4  # of the tiny model's layers, and of the update
_GENERATOR = torch.Generator().manual_seed(0)
DOWN, UP = torch.randn(RANK, SIDE, generator=_GENERATOR) / 10, torch.randn(SIDE, RANK, generator=_GENERATOR) / 10
PRODUCT = UP @ DOWN


def flat(name: str) -> str:
    """As kohya's trainer writes it."""
    return name.replace(".", "_")


STEM = f"lora_unet_{flat(QUERY)}"
KOHYA: State = {f"{STEM}.lora_down.weight": DOWN, f"{STEM}.lora_up.weight": UP}
PEFT: State = {f"unet.{QUERY}.lora_A.weight": DOWN, f"unet.{QUERY}.lora_B.weight": UP}


def tensors(state: State, folder: Path, *, name: str = "x.safetensors", about: dict[str, str] | None = None) -> Path:
    """A file of these tensors."""
    save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, folder / name, about)
    return folder / name


def raw(content: bytes, folder: Path) -> Path:
    """A file of these bytes."""
    (folder / "x.safetensors").write_bytes(content)
    return folder / "x.safetensors"


def header(entries: str, body: int = 8) -> bytes:
    """A safetensors file whose header is written by hand."""
    return len(entries).to_bytes(8, "little") + entries.encode() + bytes(body)


def _renamed(state: State, old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in state.items()}


def _loras() -> Iterator[Case]:
    once, twice = Values({QUERY: 1.0}), Values({QUERY: 2.0})
    alpha = {f"{STEM}.alpha": torch.tensor(8.0)}
    cases: dict[str, tuple[State, Values]] = {
        "kohya": (KOHYA, once),
        "kohya with alpha": ({**KOHYA, **alpha}, twice),
        "LyCORIS": (_renamed(KOHYA, "lora_unet_", "lycoris_"), once),
        "PEFT": (PEFT, once),
        "PEFT, whole prefix": (_renamed(PEFT, "unet.", "unet.base_model.model."), once),
        "PEFT, no part": (_renamed(PEFT, "unet.", "base_model.model."), once),
        "original prefix": (_renamed(PEFT, "unet.", "model.diffusion_model."), once),
        "early diffusers": ({f"unet.{QUERY}.lora.down.weight": DOWN, f"unet.{QUERY}.lora.up.weight": UP}, once),
        "whole change": ({f"{STEM}.diff": PRODUCT}, once),
        "LoKr": ({f"{STEM}.lokr_w1": torch.eye(1), f"{STEM}.lokr_w2": PRODUCT}, once),
        "LoHa": (
            {f"{STEM}.hada_{part}": one for part, one in (("w1_a", UP), ("w1_b", DOWN))}
            | {f"{STEM}.hada_w2_a": torch.ones(SIDE, 1), f"{STEM}.hada_w2_b": torch.ones(1, SIDE)},
            once,
        ),
        "float16": ({name: tensor.half() for name, tensor in KOHYA.items()}, once),
        "bfloat16": ({name: tensor.bfloat16() for name, tensor in KOHYA.items()}, once),
        "float64": ({name: tensor.double() for name, tensor in KOHYA.items()}, once),
        "1x1 convolution": ({name: tensor[:, :, None, None] for name, tensor in KOHYA.items()}, once),
        "bias, too": ({**KOHYA, f"lora_unet_{flat(OUT)}.diff_b": torch.ones(SIDE)}, once),
        "norm, too": ({**KOHYA, f"lora_unet_{flat(NORM)}.w_norm": torch.ones(SIDE)}, once),
        "another layer, too": (
            {**KOHYA, "lora_unet_other.lora_down.weight": DOWN, "lora_unet_other.lora_up.weight": UP},
            Values({QUERY: 1.0}, ("2 of 4 tensors are not used .*: this model has no such layer",)),
        ),
        "unknown, too": (
            {**KOHYA, "lora_unet_x.mystery": DOWN},
            Values({QUERY: 1.0}, ("1 of 3 tensors is not used .*: nothing is known of what",)),
        ),
        "GLoRA, too": (
            {**KOHYA, **{f"lora_unet_{flat(OUT)}.{part}.weight": DOWN for part in ("a1", "a2", "b1", "b2")}},
            Values({QUERY: 1.0}, (r"4 of 6 tensors are not used .* of a kind \(GLoRA\)",)),
        ),
    }
    for name, (state, right) in cases.items():
        yield Case("lora", name, partial(tensors, state), right)
    for name, entries, scale in (
        ("PEFT's alpha", {"lora_alpha": 8}, 2.0),
        ("PEFT, rank-stabilised", {"lora_alpha": 8, "use_rslora": True}, 4.0),
        ("PEFT, alpha of one layer", {"lora_alpha": 8, "alpha_pattern": {QUERY: 2}}, 0.5),
    ):
        about = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in entries.items()})}
        yield Case("lora", name, partial(tensors, PEFT, about=about), Values({QUERY: scale}))
    for called in ("a;b.safetensors", 'the "best".safetensors', "x:0.5", "12:30.safetensors", "caf\udce9.safetensors"):
        right = Says("is not valid UTF-8") if not called.isprintable() else once
        if sys.platform != "win32":
            yield Case("lora", f"called {called!r}", partial(tensors, KOHYA, name=called), right)


def _bad_loras() -> Iterator[Case]:
    spoilt = UP.clone()
    spoilt[0, 0] = float("nan")
    states: dict[str, tuple[State, str]] = {
        "NaN": ({**KOHYA, f"{STEM}.lora_up.weight": spoilt}, "numbers that are not finite in"),
        "half of a pair": ({f"{STEM}.lora_down.weight": DOWN}, "is damaged: of .* it holds only"),
        "OFT": (
            {f"{STEM}.oft_blocks": torch.zeros(4, 8, 8), f"{STEM}.alpha": torch.tensor(1.0)},
            r"is of a kind \(OFT\) that is not known here",
        ),
        "another family": (
            {f"{STEM}.lora_down.weight": torch.ones(4, 1280), f"{STEM}.lora_up.weight": torch.ones(1280, 4)},
            "was made for .*does not fit",
        ),
        "no layer that is here": (
            {"lora_unet_x.lora_down.weight": DOWN, "lora_unet_x.lora_up.weight": UP},
            "was made for another kind of model",
        ),
        "scalars": (
            {f"{STEM}.lora_down.weight": torch.tensor(1.0), f"{STEM}.lora_up.weight": torch.tensor(1.0)},
            "is damaged",
        ),
        "a learned word": ({"emb_params": torch.ones(2, 16)}, "is not a LoRA that is known here"),
        "nothing": ({}, "is not a LoRA|holds no|is damaged|names 0"),
    }
    for name, (state, words) in states.items():
        yield Case("lora", name, partial(tensors, state), Says(words))
    whole = save(KOHYA)
    contents = {
        "empty": (b"", "is empty"),
        "cut off": (whole[:-40], "is cut off"),
        "all but the header is gone": (whole[:20], "is cut off"),
        "a letter": (b"Dear reader, " * 9, "header would be|is not a safetensors file"),
        "huge header": (b"\xff" * 7 + b"\x7f" + b"{}", "its header would be"),
        "header of no JSON": (header("x" * 80), "header is not valid|is damaged"),
        "header of a list": (header("[]"), "is damaged"),
        "nested header": (header('{"a":' * 20_000 + "1" + "}" * 20_000), "is damaged"),
        "endless shape": (
            header('{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}'),
            "its header is not that of a safetensors file",
        ),
        "negative shape": (
            header('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
            "its header is not that of a safetensors file",
        ),
        "pickle": (b"\x80\x02}q\x00." + bytes(20), "as pickle, which can run code"),
    }
    for name, (content, words) in contents.items():
        yield Case("lora", name, partial(raw, content), Says(words))
    yield Case("lora", "missing", lambda folder: folder / "x.safetensors", Says("there is no LoRA"))
    yield Case("lora", "a name that is too long", lambda folder: folder / ("x" * 5000), Says("there is no LoRA"))
    yield Case("lora", "an empty folder", lambda folder: folder, Says("holds no .safetensors file; give one"))
    yield Case("lora", "nobody's home", lambda _: "~nobody-of-this-name/x.safetensors", Says("there is no LoRA"))
    if hasattr(os, "mkfifo"):
        yield Case("lora", "a pipe", _pipe, Says("there is no LoRA|is not a file"))


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.safetensors")
    return folder / "x.safetensors"


@cache
def _tiny() -> Path:
    return write_tiny_model(Path(mkdtemp(prefix="vitrail-corpus-")) / "tiny")


@cache
def _single() -> State:
    """Stable Diffusion 1.5 at reduced width, in the layout of single files."""
    folder = Path(mkdtemp(prefix="vitrail-corpus-"))
    try:
        return original_state(write_model(folder / "sd15", "sd15"), "sd15")
    finally:
        shutil.rmtree(folder)


def in_folder(spoil: Callable[[Path], object], folder: Path) -> Path:
    """The tiny model in the diffusers layout, with something done to it."""
    shutil.copytree(_tiny(), folder / "tiny")
    spoil(folder / "tiny")
    return folder / "tiny"


def in_file(change: Callable[[State], State], folder: Path) -> Path:
    """Stable Diffusion 1.5 as a single file, with something done to its tensors."""
    return write_file(change(dict(_single())), folder / "x.safetensors")


def _with_config(part: str, folder: Path, **entries: object) -> None:
    path = folder / part
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def _checkpoints() -> Iterator[Case]:
    fine = Values()
    for name, spoil, right in (
        ("folder", lambda _: None, fine),
        ("folder without its index", lambda f: (f / "model_index.json").unlink(), Says("model_index.json")),
        ("folder, index is no JSON", lambda f: (f / "model_index.json").write_text("{"), Says("cannot be read")),
        ("folder, index is nested", lambda f: (f / "model_index.json").write_text("[" * 99999), Says("cannot be read")),
        ("folder without its UNet", lambda f: shutil.rmtree(f / "unet"), Says("unet")),
        ("folder without weights", lambda f: _weights(f, "unet").unlink(), Says("is incomplete")),
        ("folder, UNet is 5", partial(_with_config, "model_index.json", unet=5), Says("model_index.json|unet")),
        (
            "folder, heads of no size",
            partial(_with_config, "unet/config.json", attention_head_dim=0),
            Says("unet in .* cannot be loaded"),
        ),
        (
            "folder, endless schedule",
            partial(_with_config, "scheduler/scheduler_config.json", num_train_timesteps=10**9),
            Says("scheduler|timesteps"),
        ),
        ("folder, weights cut off", lambda f: _cut(_weights(f, "unet")), Says("is cut off")),
        ("folder, weights empty", lambda f: _weights(f, "vae").write_bytes(b""), Says("is empty")),
        ("folder, weights as pickle", lambda f: _pickled(_weights(f, "unet")), Says("as pickle, which can run code")),
    ):
        yield Case("checkpoint", name, partial(in_folder, spoil), right)
    inner, outer = "model.diffusion_model.middle_block.0.in_layers.2.weight", "cond_stage_model.transformer."
    for title, change, right in (
        ("file", lambda state: state, fine),
        ("file, early text encoder", lambda state: _renamed(state, f"{outer}text_model.", outer), fine),
        ("file, in half precision", lambda state: {name: one.half() for name, one in state.items()}, fine),
        ("file, with EMA", lambda state: {**state, "model_ema.decay": torch.tensor(0.99)}, fine),
        ("file, NaN", lambda state: {**state, inner: state[inner] * float("nan")}, Says("numbers that are not finite")),
        ("file, one layer is gone", lambda state: {n: one for n, one in state.items() if n != inner}, Says("the UNet")),
        (
            "file, no text encoder",
            lambda state: {n: one for n, one in state.items() if not n.startswith("cond_stage")},
            Says("holds a UNet alone, without its text encoder"),
        ),
        ("file, CosXL", lambda state: {**state, "edm_vpred.sigma_max": torch.tensor(120.0)}, Says("is a CosXL model")),
        ("file, LoRA", lambda _: KOHYA, Says("is a LoRA: load a model, and give this file as --lora")),
        ("file, other tensors", lambda _: {"a": DOWN}, Says("is not a Stable Diffusion checkpoint|holds no")),
    ):
        yield Case("checkpoint", title, partial(in_file, change), right)
    yield Case("checkpoint", "missing", lambda folder: folder / "x.safetensors", Says("there is no model"))
    yield Case("checkpoint", "an empty folder", lambda folder: folder, Says("model_index.json"))
    yield Case("checkpoint", "a name that is too long", lambda folder: folder / ("x" * 5000), Says("there is no model"))
    yield Case("checkpoint", "nobody's home", lambda _: "~nobody-of-this-name/x", Says("there is no model"))
    yield Case("checkpoint", "no name", lambda _: "", Says("there is no model"))


def _weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _pickled(path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00." + bytes(20))


CASES: tuple[Case, ...] = (*_loras(), *_bad_loras(), *_checkpoints())
