"""Find a model, check it, load it. Safetensors only: no pickle is opened, no code from a checkpoint is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from pipeline.autoencoder import Autoencoder
from pipeline.device import choose_device, choose_dtype
from pipeline.models.hub import download, looks_like_hub_id
from pipeline.models.model import Model, ModelError
from pipeline.prompt import PromptEncoder
from pipeline.schedule import NoiseSchedule

EMBEDDED = "embedded"
EMBEDDED_PATH = Path(__file__).resolve().parents[2] / "assets" / "models" / "vitrail-mini"

_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")


def load_model(spec: str = EMBEDDED, device: str = "auto", dtype: str = "auto") -> Model:
    """Load a model in the diffusers folder layout.

    Args:
        spec: ``embedded``, a folder, or a hub name such as ``stabilityai/sd-turbo``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``.
        dtype: ``auto``, ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        ModelError: the model is missing, incomplete, corrupt, of an unknown kind or stored as pickle.
        ValueError: the device or the number format is not to be had here.
    """
    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(chosen_device, dtype)
    folder = find_model(spec)
    notes: list[str] = []
    index = _read_json(folder / "model_index.json")
    unet = _load_unet(folder, index, chosen_dtype)
    autoencoder = Autoencoder(_load_autoencoder(folder, chosen_dtype))
    if not autoencoder.is_tiny:
        notes.append("the model's full autoencoder is used, which is slow; put a tiny one in the folder's vae/")
    schedule = _load_schedule(folder)
    prompts = _load_prompts(folder, chosen_device, chosen_dtype)
    _check_channels(folder, unet, autoencoder)
    for module in (unet, autoencoder.module):
        module.eval().requires_grad_(False).to(chosen_device, memory_format=torch.channels_last)
    return Model(
        name=EMBEDDED if spec == EMBEDDED else folder.name if Path(spec).exists() else spec,
        unet=unet,
        autoencoder=autoencoder,
        prompts=prompts,
        schedule=schedule,
        device=chosen_device,
        dtype=chosen_dtype,
        default_size=int(unet.config.sample_size or 64) * autoencoder.factor,
        notes=notes,
    )


def find_model(spec: str) -> Path:
    """The folder that ``spec`` means, downloaded first where it is a hub name.

    Raises:
        ModelError: there is no such folder, and it is not a hub name that can be reached.
    """
    path = EMBEDDED_PATH if spec == EMBEDDED else Path(spec).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ModelError(f"{path} is not a diffusers model folder: it has no model_index.json")
        return path
    if spec == EMBEDDED:
        raise ModelError(f"the embedded model is missing from {path}; install Vitrail again")
    if path.is_file():
        raise ModelError(f"{path} is a single file; give a diffusers model folder, a hub name, or 'embedded'")
    if looks_like_hub_id(spec):
        return download(spec)
    raise ModelError(
        f"there is no model {spec!r}: give 'embedded', a diffusers model folder, or a hub name (owner/name)"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object from ``path``, or a ``ModelError`` that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"the model is incomplete: {path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"the model is damaged: {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"the model is damaged: {path} does not hold a JSON object")
    return content


def _variant(folder: Path) -> str | None:
    """``fp16`` where only that variant of the weights is stored; refuses a part that has no safetensors at all."""
    stored = [path.name for path in folder.glob("*.safetensors")]
    if not stored:
        if any(path for pattern in _PICKLES for path in folder.glob(pattern)):
            raise ModelError(
                f"{folder} holds its weights as pickle, which can run code, so it is not opened; "
                "convert it to safetensors or take a model that is stored so"
            )
        raise ModelError(f"the model is incomplete: {folder} holds no .safetensors file")
    return None if any(".fp16." not in name for name in stored) else "fp16"


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    """``kind.from_pretrained`` on one local part, with its many ways to fail said in one sentence."""
    if not folder.is_dir():
        raise ModelError(f"the model is incomplete: {folder} is missing")
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the model's {folder.name} in {folder} cannot be loaded: {first_line}") from error


def _load_weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    return _load(
        kind, folder, variant=_variant(folder), torch_dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
    )


def _load_unet(folder: Path, index: dict[str, Any], dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    kind = (index.get("unet") or [None, None])[1]
    if kind != "UNet2DConditionModel":
        raise ModelError(
            f"the model in {folder} has a denoiser of kind {kind}; only UNet2DConditionModel can be streamed"
        )
    return _load_weights(UNet2DConditionModel, folder / "unet", dtype)


def _load_autoencoder(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    kinds = {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL}
    name = _read_json(folder / "vae" / "config.json").get("_class_name")
    if name not in kinds:
        raise ModelError(f"the autoencoder in {folder / 'vae'} is of kind {name}; known are {', '.join(kinds)}")
    return _load_weights(kinds[name], folder / "vae", dtype)


def _load_schedule(folder: Path) -> NoiseSchedule:
    try:
        return NoiseSchedule.from_config(_read_json(folder / "scheduler" / "scheduler_config.json"))
    except (ValueError, TypeError) as error:
        raise ModelError(f"the noise schedule in {folder / 'scheduler'} cannot be used: {error}") from error


def _load_prompts(folder: Path, device: torch.device, dtype: torch.dtype) -> PromptEncoder:
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging as transformers_logging

    # Its bars would write over the application's own.
    transformers_logging.disable_progress_bar()
    text_folder = folder / "text_encoder"
    _variant(text_folder)
    # The text encoder runs once a prompt: float32 costs nothing that matters, and is exact.
    text_encoder = _load(CLIPTextModel, text_folder, dtype=torch.float32, use_safetensors=True)
    tokenizer = _load(CLIPTokenizer, folder / "tokenizer")
    return PromptEncoder(tokenizer, text_encoder.eval().requires_grad_(False).to(device), device, dtype)


def _check_channels(folder: Path, unet: Any, autoencoder: Autoencoder) -> None:
    """Refuse parts that do not fit each other, before the first frame finds out."""
    latent, taken, given = autoencoder.latent_channels, unet.config.in_channels, unet.config.out_channels
    if given != latent or taken not in (latent, 2 * latent):
        raise ModelError(
            f"the parts in {folder} do not fit: the autoencoder has {latent} latent channels, "
            f"the UNet takes {taken} and gives {given}"
        )
