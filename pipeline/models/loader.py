"""Find a model, check it, load it. Safetensors only: no pickle is opened, no code from a checkpoint is run."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.device import choose_device, choose_dtype
from pipeline.diffusion.schedule import read_schedule
from pipeline.models.adapters import Adapters
from pipeline.models.autoencoder import Autoencoder
from pipeline.models.bounds import read_bounds
from pipeline.models.errors import ModelError
from pipeline.models.families import VITRAIL, Character, Hints, character_of, defaults_for
from pipeline.models.folder import read_folder
from pipeline.models.hub import Progress, download, looks_like_hub_id
from pipeline.models.memory import WeightPlaces
from pipeline.models.model import Model
from pipeline.models.model_parts import Parts, latent_side
from pipeline.models.residency import Residency
from pipeline.models.tiny_autoencoder import choose_autoencoder
from pipeline.models.weights import refuse_pickle

EMBEDDED = "embedded"
EMBEDDED_PATH = Path(__file__).resolve().parents[2] / "assets" / "models" / "vitrail-mini"


def load_model(
    spec: str = EMBEDDED,
    device: str = "auto",
    dtype: str = "auto",
    *,
    autoencoder: str = "auto",
    memory: str = "full",
    progress: Progress | None = None,
) -> Model:
    """Load a model: Stable Diffusion 1 or 2, SDXL, InstructPix2Pix, fine-tunes and few-step forms of these, or our own.

    Args:
        spec: ``embedded``, a folder in the diffusers layout, a ``.safetensors`` checkpoint, or a hub name such as
            ``stabilityai/sd-turbo`` or ``owner/name@revision``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``. With ``auto`` it is what suits PyTorch on the device,
            and a backend may calculate in another.
        autoencoder: ``auto`` (the matching tiny one where it can be had), ``tiny``, ``full``, or a folder with one.
        memory: one of ``MEMORY_MODES``; with ``offload`` the weights are never on the device all at once.
        progress: told of a download, on another thread; what it raises cancels the download.

    Raises:
        ModelError: the model is missing, incomplete, corrupt, of an unknown kind or stored as pickle.
        ValueError: the device or the number format is not to be had here.
    """
    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(chosen_device, dtype)
    path = find_model(spec, progress)
    if path.is_file():
        from pipeline.models.checkpoint import read_checkpoint

        parts = read_checkpoint(path, chosen_dtype)
    else:
        parts = read_folder(path, chosen_dtype)
    pictures = choose_autoencoder(autoencoder, parts.family, parts.autoencoder, chosen_dtype, parts.notes, progress)
    name = EMBEDDED if spec == EMBEDDED else path.stem if path.is_file() else path.name if Path(spec).exists() else spec
    model = _assembled(parts, Autoencoder(pictures), name, path, chosen_device, chosen_dtype, dtype != "auto", memory)
    model.memory.set(memory)
    return model


def find_model(spec: str, progress: Progress | None = None) -> Path:
    """The folder or the checkpoint that ``spec`` means, downloaded first where it is a hub name.

    Raises:
        ModelError: there is no such thing, and it is not a hub name that can be reached.
    """
    path = EMBEDDED_PATH if spec == EMBEDDED else Path(spec).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{path} is not a diffusers model folder: it has no model_index.json")
        return path
    if spec == EMBEDDED:
        raise ModelError(f"the embedded model is missing from {path}; install Vitrail again")
    if path.is_file():
        refuse_pickle(path)
        return path
    if looks_like_hub_id(spec):
        return download(spec, progress)
    raise ModelError(
        f"there is no model {spec!r}: give 'embedded', a diffusers model folder, a .safetensors file, "
        "or a hub name (owner/name)"
    )


def _assembled(
    parts: Parts,
    autoencoder: Autoencoder,
    name: str,
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    dtype_asked: bool,
    memory: str,
) -> Model:
    try:
        schedule = read_schedule(parts.scheduler)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ModelError(f"the noise schedule of {path} cannot be used: {error}") from error
    _check_fit(path, parts, autoencoder)
    home = torch.device("cpu") if memory == "offload" else device
    for module in (parts.unet, autoencoder.module):
        # torch's types do not know that a module takes a memory format.
        module.eval().requires_grad_(False).to(home, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if autoencoder.is_tiny:
        autoencoder.module.to(device)
    for encoder in parts.text_encoders:
        encoder.module.eval().requires_grad_(False).to(home)
    unet = parts.unet
    size = latent_side(unet.config["sample_size"]) * autoencoder.factor
    ours = parts.family is VITRAIL
    names = f"{name} {parts.names}"
    character = Character(True, {}) if ours else character_of(names, parts.scheduler, unet.config)
    defaults = _own_defaults(path) if ours else defaults_for(parts.family, character)
    prompts = PromptEncoder(parts.text_encoders, device, dtype, zero_negative=parts.zero_negative)
    residency = Residency()
    residency.subscribe(prompts)
    adapters = Adapters(residency, unet, prompts, parts.family, character.few_step)
    texts = [encoder.module for encoder in parts.text_encoders]
    return Model(
        name=name,
        unet=unet,
        autoencoder=autoencoder,
        prompts=prompts,
        schedule=schedule,
        device=device,
        dtype=dtype,
        default_size=size,
        residency=residency,
        adapters=adapters,
        memory=WeightPlaces(residency, unet, autoencoder, texts, device),
        dtype_asked=dtype_asked,
        notes=tuple(parts.notes),
        family=parts.family,
        few_step=character.few_step,
        grid=character.grid,
        defaults=defaults,
        raw_input=parts.raw_input,
        bounds=read_bounds(path) if ours and autoencoder.module is parts.autoencoder else {},
    )


def _own_defaults(path: Path) -> Hints:
    """What the embedded model's own description recommends."""
    try:
        described = json.loads((path / "styles.json").read_text(encoding="utf-8"))
        return {
            "strength": float(described["default_strength"]),
            "steps": int(described["default_steps"]),
            "guidance_rescale": float(described["default_guidance_rescale"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _check_fit(path: Path, parts: Parts, autoencoder: Autoencoder) -> None:
    """Refuse parts that do not fit each other, before the first frame finds out."""
    config = parts.unet.config
    latent, taken, given = autoencoder.latent_channels, config["in_channels"], config["out_channels"]
    if given != latent or taken not in (latent, 2 * latent):
        raise ModelError(
            f"the parts in {path} do not fit: the autoencoder has {latent} latent channels, "
            f"the UNet takes {taken} and gives {given}"
        )
    width = sum(encoder.width for encoder in parts.text_encoders)
    if config["cross_attention_dim"] != width:
        raise ModelError(
            f"the parts in {path} do not fit: the text encoder's embeddings are {width} wide, "
            f"the UNet takes {config['cross_attention_dim']}"
        )
