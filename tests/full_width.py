"""``python -m tests.full_width [sd-turbo|sd15]``: the true architectures at their full width, on the CPU.

Random weights in the real layout, written to a temporary folder in float16, found and loaded by the real loader, and a
few frames streamed: what it takes in time and memory. Nothing is said of the pictures. Not part of the tests: it writes
2.5 GB and takes a minute.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline import Stream, StreamConfig, load_model
from tests.tiny_model import write_json, write_tokenizer

# As published in the configurations of stabilityai/sd-turbo and runwayml/stable-diffusion-v1-5.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "sd-turbo": {
        "unet": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
        "text": {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu"},
        "scheduler": {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
    },
    "sd15": {
        "unet": {"cross_attention_dim": 768, "attention_head_dim": 8},
        "text": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu"},
        "scheduler": {"_class_name": "PNDMScheduler"},
    },
}


def write(folder: Path, name: str) -> float:
    """Write the model; gives its UNet's parameters in millions."""
    known = ARCHITECTURES[name]
    config = {"sample_size": 64, "block_out_channels": (320, 640, 1280, 1280), **known["unet"]}
    unet = _random(lambda: UNet2DConditionModel(**config))
    unet.save_pretrained(folder / "unet")
    count = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    text = CLIPTextConfig(vocab_size=49408, intermediate_size=4 * known["text"]["hidden_size"], **known["text"])
    _random(lambda: CLIPTextModel(text)).save_pretrained(folder / "text_encoder")
    AutoencoderTiny().half().save_pretrained(folder / "vae")
    write_tokenizer(folder / "tokenizer")
    schedule = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    write_json(folder / "scheduler" / "scheduler_config.json", {**schedule, **known["scheduler"]})
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    write_json(folder / "model_index.json", index)
    return count


def _random(make: Any) -> Any:
    """A module in float16 whose weights are drawn cheaply: there are a billion of them."""
    with torch.device("meta"):
        module = make().half()
    module = module.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:
                some = torch.randn(1024, generator=generator) * 0.02
                parameter.view(-1).copy_(some.repeat(-(-parameter.numel() // 1024))[: parameter.numel()])
        for name, buffer in module.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]))
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=ARCHITECTURES, nargs="?", default="sd-turbo")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        count = write(Path(folder) / arguments.name, arguments.name)
        began = time.perf_counter()
        model = load_model(str(Path(folder) / arguments.name), device="cpu", dtype=arguments.dtype)
        loaded = time.perf_counter() - began
        stream = Stream(model, StreamConfig(prompt="a cat", steps=1, solver="ddim", strength=0.6))
        times = []
        for seed in range(arguments.frames):
            generator = torch.Generator().manual_seed(seed)
            frame = torch.rand(3, arguments.size, arguments.size, generator=generator)
            began = time.perf_counter()
            image = stream(frame).image
            times.append(time.perf_counter() - began)
            assert image.shape == (1, 3, arguments.size, arguments.size)
            assert bool(image.isfinite().all())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(  # noqa: T201
        f"{arguments.name}: UNet of {count:.0f} M parameters, {arguments.dtype}, {model.family.title}, "
        f"few steps: {model.few_step}; loaded in {loaded:.1f} s; {arguments.frames} frames of {arguments.size}x"
        f"{arguments.size} with one step in {', '.join(f'{t:.1f}' for t in times)} s; peak memory {peak:.1f} GB"
    )


if __name__ == "__main__":
    main()
