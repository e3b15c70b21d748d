"""StreamDiffusion 0.1.1, unmodified, as its own README runs it; without a GPU, its CUDA events are stand-ins.

``python -P streamdiffusion_worker.py MODEL FRAMES.npy STEPS GUIDANCE DTYPE``
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

# The time steps of their README (of 50): one step as with SD-Turbo, four as with LCM-LoRA.
T_INDEX = {1: [32], 2: [32, 45], 4: [22, 32, 40, 45], 5: [18, 26, 32, 40, 45]}


class HostEvent:
    """Stands in for ``torch.cuda.Event`` where there is no GPU; the time it gives only paces their filter."""

    def __init__(self, **_: Any) -> None: ...
    def record(self) -> None: ...
    def elapsed_time(self, _: HostEvent) -> float:
        return 0.0


def main(model: str, clip: str, steps: int, guidance: str, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        torch.cuda.Event = HostEvent  # type: ignore[misc,assignment]
        torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    from streamdiffusion import StreamDiffusion  # type: ignore[import-not-found]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = diffusers.AutoencoderTiny.from_pretrained(Path(model) / "vae", torch_dtype=dtype)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        model, vae=vae, torch_dtype=dtype, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(device)
    frames = torch.from_numpy(np.load(clip)).permute(0, 3, 1, 2).float() / 255
    stream = StreamDiffusion(
        pipe, T_INDEX[steps], torch_dtype=dtype, width=frames.shape[3], height=frames.shape[2], cfg_type=guidance
    )
    stream.prepare("a watercolour painting", "", num_inference_steps=50, guidance_scale=1.2)
    serve(
        channel,
        lambda count: stream(frames[count % len(frames)]).float().cpu(),
        versions={"streamdiffusion": "0.1.1", "diffusers": diffusers.__version__, "torch": torch.__version__},
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], getattr(torch, sys.argv[5]))
