"""Names of the original layout: the same as diffusers' own converters give, for real checkpoints' structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.models.original_layout import (
    autoencoder_state,
    early_autoencoder_state,
    open_clip_state,
    unet_name,
)
from tests.checkpoints import original_state, write_model

State = dict[str, torch.Tensor]
LEVELS = 4  # of the autoencoder


def of(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def same(ours: State, theirs: State) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_names_are_those_of_diffusers_converters(kind: str, tmp_path: Path) -> None:
    state = original_state(write_model(tmp_path / kind, kind), kind)
    config: dict[str, Any] = {"layers_per_block": 2}
    if kind == "sdxl":
        config["addition_embed_type"] = "text_time"
    theirs = single_file_utils.convert_ldm_unet_checkpoint(dict(state), config)
    same({unet_name(name, 2): tensor for name, tensor in of("model.diffusion_model.", state).items()}, theirs)
    blocks = {"down_block_types": [""] * LEVELS, "up_block_types": [""] * LEVELS, "block_out_channels": [1] * LEVELS}
    vae = {name: tensor for name, tensor in state.items() if name.startswith("first_stage_model.")}
    theirs = single_file_utils.convert_ldm_vae_checkpoint(vae, blocks)
    same(autoencoder_state(of("first_stage_model.", state), LEVELS), theirs)


def test_text_encoders_of_open_clip_are_those_of_diffusers_converters(tmp_path: Path) -> None:
    prefix = "conditioner.embedders.1.model."
    state = original_state(write_model(tmp_path / "sdxl", "sdxl"), "sdxl")
    state = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
    bare = CLIPTextModel(CLIPTextConfig(hidden_size=128, intermediate_size=8, num_hidden_layers=1, vocab_size=8))
    theirs = single_file_utils.convert_open_clip_checkpoint(bare, state, prefix=prefix)
    ours = open_clip_state(of(prefix, state))
    same(ours, {name.removeprefix("text_model."): tensor for name, tensor in theirs.items()})


@pytest.mark.parametrize(
    ("flat", "expected"),
    [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        ("output_blocks_2_1_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_5_2_conv", "up_blocks_1_upsamplers_0_conv"),
        ("output_blocks_5_0_in_layers_2", "up_blocks_1_resnets_2_conv1"),
        ("middle_block_2_emb_layers_1", "mid_block_resnets_1_time_emb_proj"),
        ("label_emb_0_2", "add_embedding_linear_2"),
        ("input_blocks_0_0", "conv_in"),
        ("mid_block_attentions_0_proj_in", "mid_block_attentions_0_proj_in"),
    ],
)
def test_flat_names_follow_the_same_rules(flat: str, expected: str) -> None:
    assert unet_name(flat, 2, "_") == expected


def test_an_autoencoder_of_early_diffusers_has_the_names_of_now() -> None:
    names = ("query", "key", "value", "proj_attn", "group_norm")
    early = {f"encoder.mid_block.attentions.0.{name}.weight": torch.zeros(1) for name in names}
    now = ("to_q", "to_k", "to_v", "to_out.0", "group_norm")
    assert list(early_autoencoder_state(early)) == [f"encoder.mid_block.attentions.0.{name}.weight" for name in now]
