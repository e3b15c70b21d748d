"""Tiny models of depth and pose with random weights, in the layout of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    PreTrainedModel,
    VitPoseConfig,
    VitPoseForPoseEstimation,
)
from transformers.utils import logging

from tests.tiny_model import write_json

logging.disable_progress_bar()


def write_depth_model(folder: Path, seed: int = 0) -> PreTrainedModel:
    """A Depth Anything of some 10,000 weights for pictures of 70 pixels."""
    torch.manual_seed(seed)
    backbone = {
        "model_type": "dinov2",
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 70,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    }
    config = DepthAnythingConfig(
        backbone_config=backbone,  # pyright: ignore[reportArgumentType]  # a dict becomes the configuration it describes
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    model = DepthAnythingForDepthEstimation(config).eval()
    with torch.no_grad():  # random weights answer every picture alike, and mostly below 0, where nothing is seen
        for name, weights in model.named_parameters():
            if name.endswith("weight") and weights.ndim > 1:
                weights.mul_(8)
        torch.nn.init.constant_(model.get_parameter("head.conv3.bias"), 5.0)
    model.save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "size": {"height": 70, "width": 70}},
    )
    return model


def write_pose_model(folder: Path, joints: int = 17) -> PreTrainedModel:
    """A ViTPose of some 20,000 weights for pictures of 64 by 48 pixels."""
    torch.manual_seed(0)
    backbone = {
        "model_type": "vitpose_backbone",
        "image_size": [64, 48],
        "patch_size": [16, 16],
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_experts": 1,
        "part_features": 8,
        "out_indices": [2],
    }
    config = VitPoseConfig(
        backbone_config=backbone,  # pyright: ignore[reportArgumentType]  # a dict becomes the configuration it describes
        id2label={number: f"joint {number}" for number in range(joints)},
    )
    model = VitPoseForPoseEstimation(config).eval()
    model.save_pretrained(folder)
    return model
