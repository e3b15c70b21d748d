"""Single files as they are about: other layouts of the same parts, reduced models, and what they hold besides."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from pipeline import Model, ModelError, Stream, StreamConfig, load_model
from pipeline.models.checkpoint import unet_config
from pipeline.models.families import SD1, SDXL
from tests.checkpoints import State, original_state, shelved, write_file

UNET = "model.diffusion_model."


def state_of(kind: str, shelf: Path) -> State:
    return original_state(shelved(kind, shelf), kind)


def load(path: Path) -> Model:
    return load_model(str(path), device="cpu", dtype="float32", autoencoder="full")


def picture(model: Model) -> torch.Tensor:
    frame = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3))
    return Stream(model, StreamConfig(prompt="a cat", steps=1, strength=0.8, solver="ddim"))(frame).image


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_text_encoder_without_text_model_in_its_names_is_read(kind: str, shelf: Path, tmp_path: Path) -> None:
    state = {name.replace("transformer.text_model.", "transformer."): t for name, t in state_of(kind, shelf).items()}
    model = load(write_file(state, tmp_path / "model.safetensors"))
    assert model.notes == ()
    torch.testing.assert_close(model.prompts("a cat"), load(shelved(kind, shelf)).prompts("a cat"))


BESIDE = (
    "model_ema.diffusion_modelout2weight",
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
    "cond_stage_model.transformer.text_projection.weight",
    "cond_stage_model.logit_scale",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_one_minus_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_mean_coef2",
    "betas",
    "logvar",
    "first_stage_model.loss.discriminator.main.0.weight",
    "optimizer_states.0.exp_avg",
    "global_step",
)


def test_what_a_stream_has_no_use_for_is_known_and_all_else_is_named(shelf: Path, tmp_path: Path) -> None:
    state = {**state_of("sd15", shelf), **{name: torch.full((2,), float("nan")) for name in BESIDE}}
    assert load(write_file(state, tmp_path / "known.safetensors")).notes == ()
    strange = {f"{UNET}input_blocks.1.2.gate": torch.zeros(2), "control.weight": torch.zeros(2)}
    (note,) = load(write_file({**state, **strange}, tmp_path / "strange.safetensors")).notes
    assert note == (
        f"strange.safetensors: 2 of {len(state) + 2} tensors are not used (such as control.weight): "
        "they are no part of a Stable Diffusion model that is known here"
    )


OTHERS = {
    "edm_vpred.sigma_max": "is a CosXL model, whose noise schedule",
    "edm_mean": "is a Playground 2.5 model, whose noise schedule",
    "scaled_fp8": "stores its weights as scaled float8",
    f"{UNET}middle_block.0.in_layers.2.scale_weight": "stores its weights as scaled float8",
    f"{UNET}middle_block.0.in_layers.2.weight.absmax": "stores its weights in four or eight bits",
}


@pytest.mark.parametrize("key", OTHERS)
def test_a_file_of_another_kind_is_called_by_its_name(key: str, shelf: Path, tmp_path: Path) -> None:
    state = {**state_of("sdxl", shelf), key: torch.tensor(120.0)}
    with pytest.raises(ModelError, match=OTHERS[key]):
        load(write_file(state, tmp_path / "model.safetensors"))


@pytest.mark.parametrize("stored", [23, 24])
def test_stable_diffusion_2_reads_23_layers_of_its_text_encoder(stored: int, shelf: Path, tmp_path: Path) -> None:
    """Stability stores the last of the 24 as well; trainers save what is read."""
    state = state_of("sd21", shelf)
    if stored == 23:
        state = {name: tensor for name, tensor in state.items() if ".resblocks.23." not in name}
        del state["cond_stage_model.model.text_projection"]
    model = load(write_file(state, tmp_path / "model.safetensors", {"modelspec.prediction_type": "v"}))
    assert model.prompts.encoders[0].module.config.num_hidden_layers == 23
    assert model.notes == ()
    torch.testing.assert_close(model.prompts("a cat"), load(shelved("sd21", shelf)).prompts("a cat"))


PARTS = {
    "UNet": f"{UNET}middle_block.0.in_layers.2.weight",
    "autoencoder": "first_stage_model.decoder.conv_in.weight",
    "text encoder": "cond_stage_model.transformer.text_model.final_layer_norm.weight",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_number_that_is_not_finite_is_refused_by_its_name(part: str, shelf: Path, tmp_path: Path) -> None:
    state = state_of("sd15", shelf)
    spoilt = state[PARTS[part]].clone()
    spoilt.view(-1)[0] = float("nan")
    path = write_file({**state, PARTS[part]: spoilt}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=rf"model.safetensors has numbers that are not finite in {PARTS[part]}; get"):
        load(path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("shape", [None, (7, 7)])
def test_missing_and_misshapen_weights_are_one_sentence(
    part: str, shape: tuple[int, ...] | None, shelf: Path, tmp_path: Path
) -> None:
    state = state_of("sd15", shelf)
    if shape is None:
        del state[PARTS[part]]
    else:
        state[PARTS[part]] = torch.zeros(shape)
    with pytest.raises(ModelError, match=f"the {part} in .*model.safetensors") as caught:
        load(write_file(state, tmp_path / "model.safetensors"))
    assert "\n" not in str(caught.value)
    assert "Missing key" not in str(caught.value)


def test_a_text_encoder_of_another_kind_is_not_called_missing(shelf: Path, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in state_of("sd15", shelf).items() if not name.startswith("cond_stage")}
    with pytest.raises(ModelError, match="holds a UNet alone, without its text encoder"):
        load(write_file(state, tmp_path / "model.safetensors"))
    state["cond_stage_model.roberta.embeddings.weight"] = torch.zeros(2, 2)
    with pytest.raises(ModelError, match=r"a text encoder of a kind that is not known here .such as cond_stage_mod"):
        load(write_file(state, tmp_path / "model.safetensors"))


def test_a_model_told_the_guidance_keeps_the_layer_for_it(shelf: Path, tmp_path: Path) -> None:
    state = state_of("sd15", shelf)
    state[f"{UNET}time_embed.cond_proj.weight"] = torch.zeros(32, 16)
    model = load(write_file(state, tmp_path / "model.safetensors"))
    assert model.unet.config["time_cond_proj_dim"] == 16
    assert model.few_step
    assert model.notes == ()


# What is left out of SDXL, and what is then said of its structure.
REDUCED: dict[str, tuple[str, str]] = {
    "two blocks in the middle": (r"middle_block\.1\.", "its middle is made of 2 blocks without attention"),
    "attention in one layer of a level": (r"input_blocks\.4\.1\.", "some layers of a level have attention"),
    "the last level's upper half": (r"output_blocks\.8\.", "its levels have different numbers of layers"),
    "no text": (r".*transformer_blocks\.", "it takes no text"),
}


@pytest.mark.parametrize("case", REDUCED)
def test_a_structure_that_cannot_be_built_is_said(case: str, shelf: Path, tmp_path: Path) -> None:
    pattern, words = REDUCED[case]
    state = {name: t for name, t in state_of("sdxl", shelf).items() if not re.match(re.escape(UNET) + pattern, name)}
    with pytest.raises(ModelError, match=f"the UNet in .* cannot be loaded: .*{words}"):
        load(write_file(state, tmp_path / "model.safetensors"))


def test_numbers_of_blocks_that_no_file_can_hold_keep_nobody_busy(shelf: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state_of("sd15", shelf).items() if ".op." not in name}
    shapes |= {f"{UNET}{side}_blocks.999999999999.0.op.bias": (2,) for side in ("input", "output")}
    with pytest.raises(ValueError, match=r"it holds no|different numbers of layers"):
        unet_config(shapes, SD1)


def test_depths_are_read_for_each_layer_on_the_way_down_in_the_middle_and_up(shelf: Path, tmp_path: Path) -> None:
    """As of SSD-1B, which has no attention in the middle and other depths on the way up."""
    config = unet_config({name: tuple(t.shape) for name, t in state_of("ssd", shelf).items()}, SDXL)
    assert config["mid_block_type"] == "UNetMidBlock2D"
    assert config["transformer_layers_per_block"] == [[1, 1], [2, 2], [2, 2]]
    assert config["reverse_transformer_layers_per_block"] == [[2, 2, 3], [2, 1, 1], [1, 1, 1]]
    state = {name: tensor for name, tensor in state_of("sd15", shelf).items() if "middle_block." not in name}
    config = unet_config({name: tuple(tensor.shape) for name, tensor in state.items()}, SD1)
    assert config["mid_block_type"] is None
    assert config["transformer_layers_per_block"] == (1, 1, 1, 1)
    model = load(write_file(state, tmp_path / "model.safetensors"))
    assert bool(picture(model).isfinite().all())
