"""Makes a run of an exported model, so that it can be trained on where nothing but the model was kept."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

from assets.training.autoencoder import new_autoencoder
from assets.training.store import ADOPTED, save_checkpoint
from assets.training.text import new_text_encoder
from assets.training.unet import new_unet

log = logging.getLogger(__name__)

VAE, UNET, TEXT = (Path(part) for part in ("vae", "unet", "text_encoder"))
WEIGHTS = "diffusion_pytorch_model.safetensors"
NEEDED = (
    Path("model_index.json"),
    VAE / "config.json",
    VAE / WEIGHTS,
    UNET / WEIGHTS,
    TEXT / "model.safetensors",
    Path("tokenizer") / "vocab.json",
    Path("tokenizer") / "merges.txt",
)


def _filled(module: nn.Module, file: Path) -> nn.Module:
    """`module` with the weights of `file`, as float32."""
    try:
        module.load_state_dict({name: value.float() for name, value in load_file(file).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{file.parent.name}/{file.name} does not hold weights of this shape of model") from error
    return module


def _scale(config: Path) -> float:
    """The autoencoder's scaling factor."""
    try:
        return float(json.loads(config.read_text(encoding="utf-8"))["scaling_factor"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{config} names no scaling_factor: export the model again") from error


def adopt(model: Path, run: Path) -> None:
    """Write the weights of `model` (what `export` wrote) to a new `run`, at step 0 and without an optimiser's memory.

    UNet and decoder are fine-tuned from there: with gentler rates, and every term of their losses from the first step.
    """
    if (run / "unet.pt").exists():
        raise ValueError(f"{run} holds a training already: take another --out")
    missing = [part for part in NEEDED if not (model / part).is_file()]
    if missing:
        raise ValueError(f"no exported model in {model}, it lacks {missing[0]}: give its folder with --model")
    scale = _scale(model / VAE / "config.json")
    autoencoder = _filled(new_autoencoder(), model / VAE / WEIGHTS)
    unet = _filled(new_unet(), model / UNET / WEIGHTS)
    tokenizer = CLIPTokenizer.from_pretrained(str(model / "tokenizer"))
    encoder = _filled(new_text_encoder(tokenizer), model / TEXT / "model.safetensors")

    shutil.copytree(model / "tokenizer", run / "tokenizer", dirs_exist_ok=True)
    (run / "latents").mkdir(parents=True, exist_ok=True)
    (run / "latents" / "scale.json").write_text(json.dumps(scale), encoding="utf-8")
    for name, module in (
        ("autoencoder", autoencoder),
        ("decoder", autoencoder.get_submodule("decoder")),
        ("text", encoder),
        ("unet", unet),
    ):
        state = module.state_dict()
        save_checkpoint(run / f"{name}.pt", {"model": state, "average": state, "step": 0})
    (run / ADOPTED).write_text(json.dumps({"model": model.name}), encoding="utf-8")
    log.info("%s: a run that goes on from %s", run, model.name)
