"""LoRAs and learned words on a running stream: every layout, several at once, live strengths, exact removal."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import Model, ModelError, Stream, StreamConfig, load_model
from pipeline.adapter_list import parse_files, parse_loras, quoted
from pipeline.models.adapters import Adapters
from pipeline.models.families import SD1
from pipeline.models.lora import Update
from tests.adapters import RANK, write_lora
from tests.checkpoints import write_model

BASE = StreamConfig(prompt="a cat", steps=2, strength=0.8, solver="ddim")
LAYOUTS = ("peft", "diffusers-old", "kohya", "kohya-original")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "sd15", "sd15")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: Model) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("loras")
    paths = {layout: place / f"{layout}.safetensors" for layout in LAYOUTS}
    for layout, path in paths.items():
        write_lora(path, model, layout)
    write_lora(place / "other.safetensors", model, "kohya", alpha=RANK / 2, seed=9)
    return {**paths, "other": place / "other.safetensors"}


def frame() -> torch.Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3))


def picture(model: Model, config: StreamConfig) -> torch.Tensor:
    stream = Stream(model, config)
    image = stream(frame()).image
    stream.configure(replace(config, loras="", embeddings=""))
    return image


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_picture(layout: str, model: Model, files: dict[str, Path]) -> None:
    plain = picture(model, BASE)
    with_lora = picture(model, replace(BASE, loras=str(files[layout])))
    assert not torch.allclose(plain, with_lora, atol=1e-3)
    torch.testing.assert_close(with_lora, picture(model, replace(BASE, loras=str(files["peft"]))), atol=1e-4, rtol=0)


def test_the_weights_are_the_sum_by_the_book(model: Model, files: dict[str, Path], tmp_path: Path) -> None:
    factors = write_lora(tmp_path / "a.safetensors", model, "kohya", alpha=2.0, seed=4)
    before = weights(model)
    Stream(model, replace(BASE, loras=f"{tmp_path / 'a.safetensors'}:0.7; {files['other']}:-0.3"))
    second = load_file(files["other"])
    for name, (down, up) in factors.items():
        stem = f"lora_unet_{name.replace('.', '_')}"
        other = second[f"{stem}.lora_up.weight"].flatten(1) @ second[f"{stem}.lora_down.weight"].flatten(1)
        delta = 0.7 * 2.0 / RANK * (up.flatten(1) @ down.flatten(1)) - 0.3 * 0.5 * other
        expected = before[f"{name}.weight"] + delta.reshape(before[f"{name}.weight"].shape)
        torch.testing.assert_close(model.unet.state_dict()[f"{name}.weight"], expected, atol=1e-5, rtol=1e-5)
    Stream(model, BASE)
    after = model.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_strength_changes_live_and_leaves_no_trace(model: Model, files: dict[str, Path]) -> None:
    """Twenty changes, then none: bit for bit the model of before. Nothing is read again: the file is away meanwhile."""
    own = model.unet
    before = weights(model)
    config = replace(BASE, loras=f"{files['kohya']}:0.5", steps=1)
    stream = Stream(model, config)
    stream(frame())
    moved = files["kohya"].rename(files["kohya"].with_suffix(".gone"))
    try:
        pictures = []
        for step in range(20):
            stream.configure(replace(config, loras=f"{files['kohya']}:{step / 10}"))
            pictures.append(stream(frame()).image)
    finally:
        moved.rename(files["kohya"])
    assert not any(torch.allclose(a, b, atol=1e-5) for a, b in pairwise(pictures))
    stream.configure(replace(config, loras=""))
    after = own.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    torch.testing.assert_close(stream(frame()).image, picture(model, replace(BASE, steps=1)), atol=1e-6, rtol=0)


def test_a_stream_equals_one_that_began_with_the_lora(model: Model, files: dict[str, Path]) -> None:
    """Cached keys and values, and prompts of a changed text encoder, follow."""
    wanted = replace(BASE, loras=f"{files['peft']}:0.8", steps=1)
    fresh = picture(model, wanted)
    stream = Stream(model, replace(BASE, steps=1))
    stream(frame())
    stream.configure(wanted)
    turned = stream(frame()).image
    stream.configure(replace(BASE, steps=1))
    torch.testing.assert_close(turned, fresh, atol=1e-6, rtol=0)


def test_a_layout_without_prefix_and_comfyui_names_are_understood(model: Model, files: dict[str, Path]) -> None:
    expected = picture(model, replace(BASE, loras=str(files["peft"])))
    state = load_file(files["peft"])
    comfy = {k.replace("unet.", "diffusion_model."): v for k, v in load_file(files["peft"]).items()}
    old = {}
    for name, tensor in state.items():
        match = name.removeprefix("unet.")
        for which in ("to_q", "to_k", "to_v"):
            match = match.replace(f".{which}.lora_A.", f".processor.{which}_lora.down.")
            match = match.replace(f".{which}.lora_B.", f".processor.{which}_lora.up.")
        old[match] = tensor
    for number, layout in enumerate((comfy, old)):
        path = files["peft"].with_name(f"more-{number}.safetensors")
        save_file(layout, path)
        torch.testing.assert_close(picture(model, replace(BASE, loras=str(path))), expected, atol=1e-4, rtol=0)


def test_products_of_lycoris() -> None:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    like = torch.empty(6, 8)
    first, second = (rand(6, 2), rand(2, 8)), (rand(6, 2), rand(2, 8))
    hada = {"hada_w1_a": first[0], "hada_w1_b": first[1], "hada_w2_a": second[0], "hada_w2_b": second[1]}
    torch.testing.assert_close(Update(hada, 1.0).delta(like), (first[0] @ first[1]) * (second[0] @ second[1]))
    small, large = rand(2, 2), rand(3, 4)
    torch.testing.assert_close(
        Update({"lokr_w1": small, "lokr_w2": large}, 0.5).delta(like), torch.kron(small, large) / 2
    )
    mid = {"down": rand(2, 3, 1, 1), "mid": rand(2, 2, 3, 3), "up": rand(4, 2, 1, 1)}
    composed = torch.einsum("or,rskl,si->oikl", mid["up"][:, :, 0, 0], mid["mid"], mid["down"][:, :, 0, 0])
    torch.testing.assert_close(Update(mid, 1.0).delta(torch.empty(4, 3, 3, 3)), composed)


@pytest.mark.parametrize("shape", [(6, 8), (6, 4, 3, 3)])
@pytest.mark.parametrize("layout", ["peft", "kohya", "kohya by input"])
def test_a_dora_sets_direction_and_length_apart(layout: str, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(*shape, generator=generator)
    down = torch.randn(2, *shape[1:], generator=generator)
    up = torch.randn(shape[0], 2, *(1,) * (len(shape) - 2), generator=generator)
    kept = 1 if layout == "kohya by input" else 0
    lengths = torch.rand(shape[kept], generator=generator) + 0.5
    rest = (1,) * (len(shape) - 2)
    stored = {
        "peft": lengths if len(shape) == 2 else lengths.view(1, -1, *rest),
        "kohya": lengths.view(-1, 1, *rest),
        "kohya by input": lengths.view(1, -1, *rest),
    }[layout]
    role = "magnitude" if layout == "peft" else "dora_scale"
    changed = base + Update({"down": down, "up": up, role: stored}, 0.5).delta(base)
    summed = base + 0.5 * (up.flatten(1) @ down.flatten(1)).reshape(shape)
    for index in range(shape[kept]):
        found, direction = changed.select(kept, index), summed.select(kept, index)
        torch.testing.assert_close(found.norm(), lengths[index])
        torch.testing.assert_close(found / found.norm(), direction / direction.norm())


@pytest.mark.parametrize("key", ["dora_scale", "lora_magnitude_vector"])
def test_a_dora_file_is_read_and_leaves_no_trace(
    key: str, model: Model, files: dict[str, Path], tmp_path: Path
) -> None:
    state = load_file(files["peft"])
    for name in [name for name in state if name.endswith(".lora_B.weight")]:
        state[name.replace("lora_B.weight", key)] = torch.full((len(state[name]), 1), 2.0)
    save_file(state, tmp_path / "dora.safetensors")
    before, config = weights(model), replace(BASE, loras=f"{tmp_path / 'dora.safetensors'};{files['other']}:0.3")
    assert not torch.allclose(
        picture(model, config), picture(model, replace(BASE, loras=str(files["peft"]))), atol=1e-3
    )
    after = model.unet.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_lora_for_another_family_is_refused_and_the_stream_goes_on(
    model: Model, files: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "xl.safetensors"
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file({f"{name}.lora_down.weight": torch.zeros(4, 2048), f"{name}.lora_up.weight": torch.zeros(64, 4)}, other)
    stream = Stream(model, replace(BASE, steps=1))
    before = stream(frame()).image
    for bad, words in {
        str(other): "was made for SDXL: its mid_block_attentions_0",
        str(tmp_path / "none.safetensors"): "there is no LoRA",
        str(cut(files["kohya"], tmp_path)): "is cut off",
        str(pickle(tmp_path)): "as pickle, which can run code",
        str(unknown(tmp_path)): "was made for another kind of model: this one has no layer for lora_unet_x",
    }.items():
        with pytest.raises(ModelError, match=words) as caught:
            stream.configure(replace(BASE, steps=1, loras=f"{files['peft']}:0.2;{bad}"))
        assert "\n" not in str(caught.value)
        assert torch.equal(stream(frame()).image, before)


def cut(path: Path, folder: Path) -> Path:
    (folder / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    return folder / "cut.safetensors"


def pickle(folder: Path) -> Path:
    (folder / "old.safetensors").write_bytes(b"\x80\x02}q\x00." + bytes(20))
    return folder / "old.safetensors"


def unknown(folder: Path) -> Path:
    state = {"lora_unet_x.lora_down.weight": torch.zeros(2, 2), "lora_unet_x.lora_up.weight": torch.zeros(2, 2)}
    save_file(state, folder / "unknown.safetensors")
    return folder / "unknown.safetensors"


def test_the_lcm_solver_brings_its_lora(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can be had it is fused; where not, a sentence says so; and never where another few-step LoRA is."""
    assert not model.few_step
    lcm = replace(BASE, solver="lcm")
    stream = Stream(model, lcm)
    assert any("LCM-LoRA that would spare them cannot be had" in note for note in stream.notes)
    write_lora(tmp_path / "pytorch_lora_weights.safetensors", model, "kohya", seed=5)
    monkeypatch.setattr("pipeline.models.adapters.download_part", lambda *_: tmp_path)
    adapters = Adapters(model.residency, lambda: model.unet, model.prompts, SD1, few_step=False)
    assert adapters.read(lcm) == [f"{SD1.lcm_lora} is added, so that the model takes few steps"]
    before = weights(model)
    adapters.follow(lcm, stream)
    assert adapters.applied == ((SD1.lcm_lora, 1.0),)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
    adapters.follow(BASE, stream)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())
    assert adapters.loras_of(replace(lcm, loras="hyper-sd15-4steps.safetensors")) == (
        ("hyper-sd15-4steps.safetensors", 1.0),
    )
    assert Adapters(model.residency, lambda: model.unet, model.prompts, SD1, few_step=True).loras_of(lcm) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a.safetensors", (("a.safetensors", 1.0),)),
        ("a.safetensors:0.5; C:\\b.safetensors:-1", (("a.safetensors", 0.5), ("C:\\b.safetensors", -1.0))),
        ("C:\\b.safetensors\n;owner/name:.25", (("C:\\b.safetensors", 1.0), ("owner/name", 0.25))),
    ],
)
def test_lists_of_loras(text: str, expected: Any) -> None:
    assert parse_loras(text) == expected


def test_a_strength_out_of_range_is_a_bad_setting() -> None:
    with pytest.raises(ValueError, match="strength of a is 11; it must be between -10 and 10"):
        StreamConfig(loras="a:11")


@pytest.mark.parametrize("layout", ["diffusers", "web ui"])
def test_a_learned_word_is_known(layout: str, model: Model, tmp_path: Path) -> None:
    """Its vectors stand where the word stands; a word whose vectors are those of letters is those letters."""
    table = model.prompts.encoders[0].table.token_embedding.weight
    ids = model.prompts.encoders[0].tokenizer("x y", add_special_tokens=False).input_ids
    vectors = table[ids].clone()
    path = tmp_path / "spell.safetensors"
    save_file({"emb_params" if layout == "web ui" else "spell": vectors}, path)
    taught = picture(model, replace(BASE, prompt="a spell cat", embeddings=str(path)))
    torch.testing.assert_close(taught, picture(model, replace(BASE, prompt="a x y cat")), atol=1e-6, rtol=0)
    assert not torch.allclose(taught, picture(model, replace(BASE, prompt="a spell cat")), atol=1e-3)


def test_an_embedding_of_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 768)}, tmp_path / "a.safetensors")
    save_file({"clip_l": torch.zeros(2, 64), "clip_g": torch.zeros(2, 128)}, tmp_path / "b.safetensors")
    for name, words in {"a": "embeddings are 768 wide, this model's 64", "b": "64 and 128 wide"}.items():
        with pytest.raises(ModelError, match=words):
            Stream(model, replace(BASE, embeddings=str(tmp_path / f"{name}.safetensors")))


@pytest.mark.parametrize("name", ["a;b", 'the "best"', "a:0.5", "line\nend", '"', ";", " spaced ", "plain", "C:\\x;y"])
def test_a_name_of_any_kind_can_be_listed(name: str) -> None:
    entry = quoted(name)
    assert parse_files(f"{entry}; other") == (name, "other")
    assert parse_loras(f"{entry}:0.25; {entry}") == ((name, 0.25), (name, 1.0))
