"""Find a model, check it, load it. Safetensors only: no pickle is opened, no code from a checkpoint is run."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.conditioning.prompt_encoder import PromptEncoder
from pipeline.device import choose_device, choose_dtype
from pipeline.diffusion.schedule import read_schedule
from pipeline.model_files import INDEX
from pipeline.models.adapters import Adapters
from pipeline.models.autoencoder import Autoencoder
from pipeline.models.bounds import read_bounds
from pipeline.models.controls import Controls
from pipeline.models.deferred import Deferred
from pipeline.models.errors import ModelError
from pipeline.models.facts import Facts, Modules
from pipeline.models.families import VITRAIL, Character, Hints, character_of, check_channels, defaults_for
from pipeline.models.folder import read_folder
from pipeline.models.hub import Progress, download, looks_like_hub_id
from pipeline.models.kept_prompts import KeptPrompts, Projection
from pipeline.models.memory import WeightPlaces
from pipeline.models.model import Model
from pipeline.models.model_parts import Parts, latent_side
from pipeline.models.modules import AutoencoderModule
from pipeline.models.residency import Residency
from pipeline.models.start_record import StartRecord, listed, record_key
from pipeline.models.tiny_autoencoder import choose_autoencoder
from pipeline.models.weights import refuse_pickle
from pipeline.user_path import is_file, is_folder, is_there, user_path

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
    name = spec if spec == EMBEDDED or not is_there(user_path(spec)) else path.stem if is_file(path) else path.name
    file = _File(
        path, autoencoder, chosen_device, chosen_dtype, in_main_memory=memory == "offload", dtype_asked=dtype != "auto"
    )
    key = record_key(path, autoencoder=autoencoder, dtype=str(chosen_dtype), device=str(chosen_device))
    # A record spares a start only what stored engines do not need; other devices run on the modules themselves.
    recorded = chosen_device.type == "cpu" and memory == "full"
    record = StartRecord.find(key) if recorded else None
    if record is not None:
        known = record

        def read_later() -> Modules:
            _, modules, _ = file.read()
            if not known.is_true:
                raise ModelError(f"the files of {name} have changed since it was loaded; load it again")
            return modules

        return _assembled(record.facts, Deferred(read_later), file, name, record)
    before = listed([path])
    facts, modules, sources = file.read(progress)
    fallen_back = autoencoder == "auto" and not facts.autoencoder.is_tiny  # another time, a tiny one may be had
    if recorded and not fallen_back and listed([path]) == before:
        record = StartRecord(key, [path, *sources], before + listed(sources), facts)
    model = _assembled(facts, Deferred.of(modules), file, name, record)
    model.memory.set(memory)
    return model


def find_model(spec: str, progress: Progress | None = None) -> Path:
    """The folder or the checkpoint that ``spec`` means, downloaded first where it is a hub name.

    Raises:
        ModelError: there is no such thing, and it is not a hub name that can be reached.
    """
    path = EMBEDDED_PATH if spec == EMBEDDED else user_path(spec)
    if spec and is_folder(path):
        if not _has_index(path):
            raise ModelError(f"{path} is not a diffusers model folder: it has no {INDEX}")
        return path
    if spec == EMBEDDED:
        raise ModelError(f"the embedded model is missing from {path}; install Vitrail again")
    if is_file(path):
        refuse_pickle(path)
        return path
    if looks_like_hub_id(spec):
        return download(spec, progress)
    raise ModelError(
        f"there is no model {spec!r}: give 'embedded', a diffusers model folder, a .safetensors file, "
        "or a hub name (owner/name)"
    )


def _has_index(folder: Path) -> bool:
    """Whether this is a model's folder. Raises ``ModelError`` where one may not look."""
    try:
        return stat.S_ISREG((folder / INDEX).stat().st_mode)
    except PermissionError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _File:
    """A model on disk, and the way it is read.

    Attributes:
        path: a folder or a checkpoint.
        autoencoder: see ``load_model``.
        device, dtype: where it is to run, and in which number format.
        in_main_memory: its weights stay there.
        dtype_asked: the number format was asked for.
    """

    path: Path
    autoencoder: str
    device: torch.device
    dtype: torch.dtype
    in_main_memory: bool
    dtype_asked: bool

    def read(self, progress: Progress | None = None) -> tuple[Facts, Modules, list[Path]]:
        """What it holds, its modules on their device, and where else these were read from. Raises ``ModelError``."""
        if is_file(self.path):
            from pipeline.models.checkpoint import read_checkpoint

            parts = read_checkpoint(self.path, self.dtype)
        else:
            parts = read_folder(self.path, self.dtype)
        pictures = choose_autoencoder(
            self.autoencoder, parts.family, parts.autoencoder, self.dtype, parts.notes, progress, parts.sources
        )
        facts = Facts.of(parts, pictures)
        _check_fit(self.path, parts, facts)
        self._place(parts, pictures, is_tiny=facts.autoencoder.is_tiny)
        return facts, Modules(parts.unet, pictures, parts.text_encoders), parts.sources

    def _place(self, parts: Parts, autoencoder: AutoencoderModule, *, is_tiny: bool) -> None:
        home = torch.device("cpu") if self.in_main_memory else self.device
        for module in (parts.unet, autoencoder):
            # torch's types do not know that a module takes a memory format.
            module.eval().requires_grad_(False).to(home, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if is_tiny:
            autoencoder.to(self.device)
        for encoder in parts.text_encoders:
            encoder.module.eval().requires_grad_(False).to(home)


def _assembled(facts: Facts, modules: Deferred[Modules], file: _File, name: str, record: StartRecord | None) -> Model:
    path, device, dtype = file.path, file.device, file.dtype
    try:
        schedule = read_schedule(facts.scheduler)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ModelError(f"the noise schedule of {path} cannot be used: {error}") from error
    autoencoder = Autoencoder(facts.autoencoder, lambda: modules.get().autoencoder)
    ours = facts.family is VITRAIL
    names = f"{name} {facts.names}"
    character = Character(True, {}) if ours else character_of(names, facts.scheduler, facts.unet)
    defaults = _own_defaults(path) if ours else defaults_for(facts.family, character)
    kept = None if record is None else KeptPrompts(record.identity, lambda: modules.made)
    prompts = PromptEncoder(
        lambda: modules.get().text_encoders, device, dtype, zero_negative=facts.zero_negative, kept=kept
    )
    residency = Residency()
    residency.subscribe(prompts)
    memory = WeightPlaces(
        residency,
        lambda: modules.get().unet,
        autoencoder,
        lambda: [encoder.module for encoder in modules.get().text_encoders],
        device,
    )
    return Model(
        name=name,
        modules=modules,
        unet_config=facts.unet,
        unet_weights=facts.unet_weights,
        autoencoder=autoencoder,
        prompts=prompts,
        projection=Projection(residency, lambda: modules.get().unet, kept),
        schedule=schedule,
        device=device,
        dtype=dtype,
        default_size=latent_side(facts.unet["sample_size"]) * autoencoder.factor,
        residency=residency,
        adapters=Adapters(residency, lambda: modules.get().unet, prompts, facts.family, character.few_step),
        controls=Controls(facts.family, facts.unet, device, dtype, memory),
        memory=memory,
        dtype_asked=file.dtype_asked,
        notes=facts.notes,
        family=facts.family,
        few_step=character.few_step,
        grid=character.grid,
        defaults=defaults,
        raw_input=facts.raw_input,
        bounds=read_bounds(path) if ours and facts.own_autoencoder else {},
        record=record,
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


def _check_fit(path: Path, parts: Parts, facts: Facts) -> None:
    """Refuse parts that do not fit each other, before the first frame finds out."""
    config = facts.unet
    latent, taken, given = facts.autoencoder.latent_channels, config["in_channels"], config["out_channels"]
    check_channels(f"the model in {path}", taken, given)
    if given != latent:
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
