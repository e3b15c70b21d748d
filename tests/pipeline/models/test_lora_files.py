"""What LoRA files hold: every tensor is used at the right strength, or a note names it and says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline import Model, ModelError, Stream, StreamConfig, load_model
from pipeline.models.lora import Lora, Place, Targets, flat_modules, is_lora, read_lora
from pipeline.models.textual_inversion import read_embedding
from tests.checkpoints import write_model

State = dict[str, torch.Tensor]

ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1"
QUERY, KEY, OUT, NORM = f"{ATTENTION}.to_q", f"{ATTENTION}.to_k", f"{ATTENTION}.to_out.0", "mid_block.attentions.0.norm"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
WIDTH = 64
RANK = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_model(tmp_path_factory.mktemp("models") / "sd15", "sd15")
    return load_model(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def targets(model: Model) -> Targets:
    return {"denoiser": flat_modules(model.unet), "text": flat_modules(model.prompts.encoders[0].module)}


def flat(name: str) -> str:
    return name.replace(".", "_")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 10


DOWN, UP = random(RANK, WIDTH, seed=1), random(WIDTH, RANK, seed=2)
PRODUCT = UP @ DOWN
KOHYA = {f"lora_unet_{flat(QUERY)}.lora_down.weight": DOWN, f"lora_unet_{flat(QUERY)}.lora_up.weight": UP}
PEFT = {f"unet.{QUERY}.lora_A.weight": DOWN, f"unet.{QUERY}.lora_B.weight": UP}


def read(folder: Path, targets: Targets, state: State, metadata: dict[str, str] | None = None) -> Lora:
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "x.safetensors", metadata)
    return read_lora(folder / "x.safetensors", targets)


def deltas(lora: Lora, targets: Targets) -> dict[Place, torch.Tensor]:
    return {
        place: update.delta(getattr(targets[place.part][place.layer], place.parameter))
        for place, update in lora.updates.items()
    }


def text_place(targets: Targets) -> Place:
    return Place("text", next(name for name in targets["text"] if name.endswith("layers_0_self_attn_q_proj")), "weight")


PREFIXES: dict[str, State] = {
    "lycoris_": {name.replace("lora_unet_", "lycoris_"): tensor for name, tensor in KOHYA.items()},
    "unet.base_model.model.": {name.replace("unet.", "unet.base_model.model."): t for name, t in PEFT.items()},
    "base_model.model.": {name.replace("unet.", "base_model.model."): t for name, t in PEFT.items()},
    "model.diffusion_model.": {name.replace("unet.", "model.diffusion_model."): t for name, t in PEFT.items()},
    "LoKr of LyCORIS": {
        f"lycoris_{flat(QUERY)}.lokr_w1": torch.eye(1),
        f"lycoris_{flat(QUERY)}.lokr_w2": PRODUCT,
        f"lycoris_{flat(QUERY)}.alpha": torch.tensor(1.0),
    },
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_the_denoiser(prefix: str, targets: Targets, tmp_path: Path) -> None:
    lora = read(tmp_path, targets, PREFIXES[prefix])
    assert lora.notes == ()
    assert lora.updates.keys() == {Place("denoiser", flat(QUERY), "weight")}
    torch.testing.assert_close(deltas(lora, targets)[Place("denoiser", flat(QUERY), "weight")], PRODUCT)


@pytest.mark.parametrize(
    "stem",
    [
        f"text_encoder.{TEXT}.lora_linear_layer.{{}}.weight",
        f"text_encoder.{TEXT.replace('q_proj', 'to_q_lora')}.{{}}.weight",
        f"text_encoder.base_model.model.{TEXT}.lora.{{}}.weight",
        f"lycoris_{flat(TEXT)}.lora_{{}}.weight",
        f"text_encoders.clip_l.transformer.{TEXT}.lora_{{}}.weight",
    ],
)
def test_layouts_of_the_text_encoder(stem: str, targets: Targets, tmp_path: Path) -> None:
    lora = read(tmp_path, targets, {**KOHYA, stem.format("down"): DOWN, stem.format("up"): 2 * UP})
    assert lora.notes == ()
    torch.testing.assert_close(deltas(lora, targets)[text_place(targets)], 2 * PRODUCT)


def test_biases_and_norms_are_changed_and_given_back(model: Model, targets: Targets, tmp_path: Path) -> None:
    change = {OUT: random(WIDTH, seed=3), NORM: random(WIDTH, seed=4)}
    state = {
        f"lora_unet_{flat(OUT)}.diff": random(WIDTH, WIDTH),
        f"lora_unet_{flat(OUT)}.diff_b": change[OUT],
        f"lora_unet_{flat(NORM)}.w_norm": 2 * change[NORM],
        f"lora_unet_{flat(NORM)}.b_norm": change[NORM],
    }
    lora = read(tmp_path, targets, state)
    assert lora.notes == ()
    assert {place.parameter for place in lora.updates} == {"weight", "bias"}
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    config = StreamConfig(steps=1, solver="ddim")
    stream = Stream(model, replace(config, loras=f"{tmp_path / 'x.safetensors'}:0.5"))
    after = model.unet.state_dict()
    expected = {
        f"{OUT}.weight": state[f"lora_unet_{flat(OUT)}.diff"],
        f"{OUT}.bias": change[OUT],
        f"{NORM}.weight": 2 * change[NORM],
        f"{NORM}.bias": change[NORM],
    }
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor + 0.5 * expected.get(name, torch.zeros(())))
    stream.configure(config)
    assert all(torch.equal(tensor, model.unet.state_dict()[name]) for name, tensor in before.items())


def test_a_bias_of_a_layer_without_one_is_said(targets: Targets, tmp_path: Path) -> None:
    lora = read(tmp_path, targets, {**KOHYA, f"lora_unet_{flat(QUERY)}.diff_b": random(WIDTH)})
    assert lora.notes == (
        f"x.safetensors: 1 of 3 tensors is not used (lora_unet_{flat(QUERY)}.diff_b): this model's layer has no bias",
    )


FOREIGN = {
    "OFT": ("oft_blocks", "alpha"),
    "GLoRA": ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
    "IA3": ("on_input",),
    "VeRA": ("vera_lambda_b",),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_kinds_that_cannot_be_applied_are_called_by_their_name(kind: str, targets: Targets, tmp_path: Path) -> None:
    state = {f"lora_unet_{flat(OUT)}.{role}": random(4, 4) for role in FOREIGN[kind]}
    assert is_lora(state)
    with pytest.raises(ModelError, match=f"is of a kind .{kind}. that is not known here; known are LoRA") as caught:
        read(tmp_path, targets, state)
    assert "damaged" not in str(caught.value)
    lora = read(tmp_path, targets, {**KOHYA, **state})
    (note,) = lora.notes
    assert f": {len(state)} of {len(state) + 2} tensors " in note
    assert f"lora_unet_{flat(OUT)}" in note
    assert note.endswith(f"of a kind ({kind}) that is not known here")


UNUSED: dict[str, tuple[State, str]] = {
    "another layer": (
        {"lora_unet_other.lora_down.weight": DOWN, "lora_unet_other.lora_up.weight": UP},
        "2 of 4 tensors are not used (such as lora_unet_other.lora_down.weight): this model has no such layer",
    ),
    "another part": (
        {f"lora_te2_{flat(TEXT)}.alpha": torch.tensor(1.0)},
        "this model has no such layer",
    ),
    "unknown": ({"lora_unet_x.mystery": DOWN}, "1 of 3 tensors is not used (lora_unet_x.mystery): nothing is known"),
    "bias of a factor": ({f"unet.{QUERY}.lora_B.bias": random(WIDTH)}, "nothing is known of what they are"),
    "the same layer": (
        {f"unet.{QUERY}.lora_A.weight": DOWN, f"unet.{QUERY}.lora_B.weight": UP},
        "2 of 4 tensors are not used",
    ),
    "a second update": ({f"lora_unet_{flat(QUERY)}.hada_w1_a": DOWN}, "1 of 3 tensors is not used"),
}


@pytest.mark.parametrize("case", UNUSED)
def test_what_is_not_used_is_counted_and_named(case: str, targets: Targets, tmp_path: Path) -> None:
    state, words = UNUSED[case]
    lora = read(tmp_path, targets, {**KOHYA, **state})
    assert words in lora.notes[0]
    assert len(lora.notes) == 1
    torch.testing.assert_close(deltas(lora, targets)[Place("denoiser", flat(QUERY), "weight")], PRODUCT)


def metadata(**entries: Any) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in entries.items()})}


TWO = {**PEFT, f"unet.{KEY}.lora_A.weight": random(8, WIDTH), f"unet.{KEY}.lora_B.weight": random(WIDTH, 8)}
# PEFT's configuration, and what the updates of ranks 4 and 8 are multiplied with.
STRENGTHS: dict[str, tuple[Mapping[str, Any], tuple[float, float]]] = {
    "alpha": ({"lora_alpha": 8}, (8 / 4, 8 / 8)),
    "rank-stabilised": ({"lora_alpha": 8, "use_rslora": True}, (8 / 4**0.5, 8 / 8**0.5)),
    "of one layer": ({"lora_alpha": 8, "rank_pattern": {KEY: 8}, "alpha_pattern": {KEY: 2}}, (8 / 4, 2 / 8)),
    "by the end of a name": ({"lora_alpha": 8, "alpha_pattern": {"to_k": 2}}, (8 / 4, 2 / 8)),
    "not by a piece of a name": ({"lora_alpha": 8, "alpha_pattern": {"k": 2, "o_k": 3}}, (8 / 4, 8 / 8)),
}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("case", STRENGTHS)
def test_the_strength_is_the_one_in_pefts_configuration(
    case: str, beside: bool, targets: Targets, tmp_path: Path
) -> None:
    """In the metadata, as diffusers writes it, or in a file of its own, as PEFT does."""
    entries, expected = STRENGTHS[case]
    if beside:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **entries}))
        save_file(TWO, tmp_path / "adapter_model.safetensors")
        lora = read_lora(tmp_path / "adapter_model.safetensors", targets)
    else:
        lora = read(tmp_path, targets, TWO, metadata(**entries))
    assert lora.notes == ()
    scales = [lora.updates[Place("denoiser", flat(name), "weight")].scale for name in (QUERY, KEY)]
    assert scales == pytest.approx(expected)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"lora_alpha": "x"}, "cannot be read, so that 1 is taken"),
        ({"lora_alpha": float("nan")}, "cannot be read, so that 1 is taken"),
        ({"lora_alpha": 8, "alpha_pattern": [1]}, "cannot be read, so that 1 is taken"),
        ({"lora_alpha": 8, "alpha_pattern": {r"mid_block.*to_k": 2}}, "given by patterns such as 'mid_block.*to_k'"),
    ],
)
def test_a_strength_that_cannot_be_read_is_said(
    entries: Mapping[str, Any], words: str, targets: Targets, tmp_path: Path
) -> None:
    (note,) = read(tmp_path, targets, PEFT, metadata(**entries)).notes
    assert words in note


@pytest.mark.parametrize("bad", ["lora_up.weight", "alpha"])
def test_numbers_that_are_not_finite_are_refused(bad: str, targets: Targets, tmp_path: Path) -> None:
    name = f"lora_unet_{flat(QUERY)}.{bad}"
    state = {f"lora_unet_{flat(QUERY)}.alpha": torch.tensor(4.0), **KOHYA}
    state[name] = state[name].clone()
    state[name].view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match=rf"x.safetensors has numbers that are not finite in {name}; get the file ag"):
        read(tmp_path, targets, state)


DAMAGED: dict[str, State] = {
    "numbers for matrices": {name: torch.tensor(1.0) for name in KOHYA},
    "whole numbers": {name: tensor.to(torch.int64) for name, tensor in KOHYA.items()},
    "one factor": dict([*KOHYA.items()][:1]),
    "half a Hadamard product": {f"lora_unet_{flat(QUERY)}.hada_w1_a": DOWN},
    "only a strength": {f"lora_unet_{flat(QUERY)}.alpha": torch.tensor(1.0)},
    "two strengths": {**KOHYA, f"lora_unet_{flat(QUERY)}.alpha": torch.ones(2)},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_one_sentence(case: str, targets: Targets, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"x.safetensors is damaged: .*; get the file again"):
        read(tmp_path, targets, DAMAGED[case])


@pytest.mark.parametrize(
    "state",
    [
        {f"lora_unet_{flat(QUERY)}.diff": random(WIDTH * WIDTH)},  # as many numbers, otherwise laid out
        {f"lora_unet_{flat(QUERY)}.diff": random(WIDTH, 2)},
        {f"lora_unet_{flat(NORM)}.w_norm": random(2)},
        {f"lora_unet_{flat(QUERY)}.lokr_w1": random(2, 2), f"lora_unet_{flat(QUERY)}.lokr_w2": random(2, 2)},
    ],
)
def test_an_update_of_another_shape_is_refused(state: State, targets: Targets, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"was made for another model: its mid_block_attentions_0_.* does not fit a"):
        read(tmp_path, targets, state)


@pytest.mark.parametrize("called", ["clip_l", "emb_params", "string_to_param.*"])
def test_a_word_inside_a_lora_is_learned_with_it(called: str, model: Model, tmp_path: Path) -> None:
    table = model.prompts.encoders[0].table.token_embedding.weight
    ids = model.prompts.encoders[0].tokenizer("x y", add_special_tokens=False).input_ids
    path = tmp_path / "x.safetensors"
    save_file({f"bundle_emb.my.cat.{called}": table[ids].clone(), **KOHYA}, path)
    config = StreamConfig(steps=1, solver="ddim")
    stream = Stream(model, config)
    expected = model.prompts("a x y sits").clone()
    stream.configure(replace(config, loras=str(path)))
    assert model.prompts.words == ("my.cat",)
    torch.testing.assert_close(model.prompts("a my.cat sits"), expected, atol=1e-5, rtol=0)
    stream.configure(config)
    assert model.prompts.words == ()


def test_a_word_for_other_text_encoders_is_said(targets: Targets, tmp_path: Path) -> None:
    words = {"bundle_emb.cat.clip_l": random(2, WIDTH), "bundle_emb.cat.clip_g": random(2, 2 * WIDTH)}
    (note,) = read(tmp_path, targets, {**KOHYA, **words}).notes
    assert "2 of 4 tensors are not used" in note
    assert "they stand for a word, and are not made for this model's text encoders" in note


def test_a_file_of_words_names_what_else_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "spell.safetensors"
    save_file({"emb_params": random(2, WIDTH), "step": torch.tensor(3), "name": torch.zeros(1)}, path)
    learned = read_embedding(path, [WIDTH])
    assert (learned.word, len(learned.vectors[0])) == ("spell", 2)
    assert learned.notes == (
        "spell.safetensors: 2 of 3 tensors are not used (such as name): they are no embeddings of the word",
    )
    save_file({"clip_l": random(2, WIDTH)}, path)
    assert read_embedding(path, [WIDTH])[0] == "spell"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"emb_params": torch.full((2, WIDTH), float("inf"))}, "numbers that are not finite in emb_params"),
        ({"emb_params": torch.zeros(2, WIDTH, dtype=torch.int32)}, "it holds no embeddings"),
        ({"a": torch.zeros(2, WIDTH), "b": torch.zeros(1)}, "it holds 2 tensors, such as a"),
        ({}, "it holds no embeddings"),
    ],
)
def test_a_bad_file_of_words_is_one_sentence(state: State, words: str, tmp_path: Path) -> None:
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=words):
        read_embedding(tmp_path / "x.safetensors", [WIDTH])
