"""diffusers' ``AutoPipelineForImage2Image`` on the tiny autoencoder, its prompt encoded once.

``python -P autopipeline_worker.py MODEL FRAMES.npy STEPS GUIDANCE DTYPE``
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

from serving import open_channel, serve  # type: ignore[import-not-found]

channel = open_channel()

import numpy as np  # noqa: E402
import torch  # noqa: E402

diffusers: Any = import_module("diffusers")


@torch.inference_mode()
def main(model: str, clip: str, steps: int, guidance: str, dtype: torch.dtype) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = diffusers.AutoencoderTiny.from_pretrained(Path(model) / "vae", torch_dtype=dtype)
    pipe = diffusers.AutoPipelineForImage2Image.from_pretrained(
        model, vae=vae, torch_dtype=dtype, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(device)
    pipe.set_progress_bar_config(disable=True)
    frames = torch.from_numpy(np.load(clip)).permute(0, 3, 1, 2).float() / 255
    scale = 1.2 if guidance == "full" else 1.0  # at 1 it asks for no negative prompt
    embeds, negative = pipe.encode_prompt("a watercolour painting", device, 1, scale > 1, "")

    def call(count: int) -> torch.Tensor:
        # Half of twice the steps are the steps that are taken.
        pictures = pipe(
            prompt_embeds=embeds,
            negative_prompt_embeds=negative,
            image=frames[count % len(frames)].unsqueeze(0),
            num_inference_steps=2 * steps,
            strength=0.5,
            guidance_scale=scale,
            output_type="pt",
        ).images
        return pictures.float().cpu()

    serve(channel, call, versions={"diffusers": diffusers.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], getattr(torch, sys.argv[5]))
