"""``python -m tests.full_width_control``: an adapter, a ControlNet and IP-Adapters at Stable Diffusion 1.5's width.

Random weights in the real layouts, read by the real loaders; one step of one frame by the stream and by diffusers'
pipelines on the same noise, in float32 on the CPU: the largest difference of the finished latents, or pictures, as a
share of their spread, what the stream takes in time, and the memory at its peak. Not part of the tests: it writes 3 GB
and takes some minutes.
"""

from __future__ import annotations

import importlib
import resource
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline import Model, Stream, StreamConfig, load_model
from pipeline.diffusion.text_to_image import SeedPath, starting_noise
from tests.controls import new_adapter, new_controlnet, write_control
from tests.full_width import write
from tests.ip_adapters import FILES, write_picture, write_repository
from tests.pipeline.models import test_ip_adapter as looks
from tests.tiny_model import unet_of

diffusers: Any = importlib.import_module("diffusers")

SIDE = 256
BASE = StreamConfig(prompt="a cat", steps=1, solver="ddim", spacing="trailing", seed=5)
SCHEDULE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def picture(seed: int) -> torch.Tensor:
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def pipeline_of(folder: Path, name: str, **parts: Any) -> Any:
    read: dict[str, Any] = {
        "vae": diffusers.AutoencoderTiny,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
        "tokenizer": CLIPTokenizer,
    }
    parts |= {part: kind.from_pretrained(folder / part, local_files_only=True) for part, kind in read.items()}
    for part in ("vae", "unet", "text_encoder"):
        parts[part] = parts[part].float()
    parts["scheduler"] = diffusers.DDIMScheduler(
        **SCHEDULE, clip_sample=False, timestep_spacing="trailing", steps_offset=1
    )
    unused = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, name)(**parts, **unused)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latent(model: Model, config: StreamConfig, hint: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The finished latent of a frame that went through the slots, and the seconds that its call took."""
    stream = Stream(model, config)
    stream(picture(1), hints={"canny": hint})
    began = time.perf_counter()
    stream(picture(2), hints={"canny": hint})
    seconds = time.perf_counter() - began
    batch = stream._batch
    assert batch is not None
    found = batch._slots["x"][-1].clone()
    stream.close()
    return found, seconds


def tell(what: str, ours: torch.Tensor, theirs: torch.Tensor, seconds: float) -> None:
    difference = float((ours - theirs).abs().max() / theirs.std())
    print(f"{what}: largest difference {difference:.1e} of the spread; a frame takes {seconds:.1f} s")  # noqa: T201


@torch.inference_mode()
def compare(shelf: Path) -> None:
    folder = shelf / "sd15"
    print(f"UNet of {write(folder, 'sd15'):.0f} M parameters")  # noqa: T201
    model = load_model(str(folder), device="cpu", dtype="float32")
    hint = picture(3)
    adapter = new_adapter(unet_of(model))
    config = replace(BASE, text_to_image=True, keep_shape=f"canny:0.8 @ {write_control(shelf / 'adapter', adapter)}")
    ours, seconds = latent(model, config, hint)
    theirs = pipeline_of(folder, "StableDiffusionAdapterPipeline", adapter=adapter)(
        config.prompt,
        image=[hint[None, : adapter.config["in_channels"]]],
        adapter_conditioning_scale=0.8,
        num_inference_steps=1,
        guidance_scale=1.0,
        latents=starting_noise(config, *SeedPath().step(config), (4, SIDE // 8, SIDE // 8)),
        height=SIDE,
        width=SIDE,
        output_type="latent",
    ).images
    tell("T2I-Adapter", ours, theirs, seconds)
    controlnet = new_controlnet(unet_of(model), conditioning_embedding_out_channels=(16, 32, 96, 256))
    pipeline = pipeline_of(folder, "StableDiffusionControlNetImg2ImgPipeline", controlnet=controlnet)
    pipeline.scheduler.set_timesteps(2)
    kept = f"canny:0.8 @ {write_control(shelf / 'controlnet', controlnet)}"
    config = replace(BASE, timesteps=str(int(pipeline.scheduler.timesteps[1])), keep_shape=kept)
    ours, seconds = latent(model, config, hint)
    theirs = pipeline(
        config.prompt,
        image=model.autoencoder.encode(picture(2)[None]),
        control_image=hint[None],
        controlnet_conditioning_scale=0.8,
        strength=0.5,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(config.seed),
        height=SIDE,
        width=SIDE,
        output_type="latent",
    ).images
    tell("ControlNet", ours, theirs, seconds)
    del pipeline, controlnet, adapter
    write_repository(shelf / "h94", {"sd15": model.unet})
    face = write_picture(shelf / "0.png", 0)
    for kind in ("plain", "plus"):
        config = replace(looks.BASE, steps=1, strength=1.0, look_like=str(face))
        config = replace(
            config, guidance="full", guidance_scale=1.0, look_model=str(shelf / "h94" / FILES["sd15"][kind])
        )
        began = time.perf_counter()
        ours = looks.by_stream(model, config)
        seconds = (time.perf_counter() - began) / 2
        pipeline = pipeline_of(folder, "StableDiffusionImg2ImgPipeline")
        within, name = FILES["sd15"][kind].split("/")
        pipeline.load_ip_adapter(
            str(shelf / "h94"), subfolder=within, weight_name=name, image_encoder_folder="image_encoder"
        )
        theirs = looks.by_diffusers(pipeline, model, config, [face])
        tell(f"IP-Adapter {kind}", ours, theirs, seconds)


def main() -> None:
    with TemporaryDirectory() as folder:
        compare(Path(folder))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f} GB")  # noqa: T201


if __name__ == "__main__":
    main()
