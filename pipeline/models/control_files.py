"""Finding and reading a T2I-Adapter or a ControlNet: a folder of diffusers, a single file, or a hub name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from pipeline.models.building import build_diffusers
from pipeline.models.control_layouts import ControlKind, adapter_state, controlnet_state, kind_of
from pipeline.models.control_structure import adapter_config, check_fit, controlnet_config
from pipeline.models.errors import ModelError, explained
from pipeline.models.families import Family
from pipeline.models.hub import download_part, looks_like_hub_id
from pipeline.models.model_parts import read_json
from pipeline.models.modules import UNetConfig, control_classes
from pipeline.models.weights import read_header, sound_state, unused_note, weight_files
from pipeline.user_path import is_file, is_folder, is_there, user_path

_CONFIG = "config.json"
# Of buffers that some files hold, and no module needs.
_NO_WEIGHTS = ("position_ids",)
_ORDER = "controlnet_conditioning_channel_order"
_FIRST_OF_HINT = "controlnet_cond_embedding.conv_in.weight"


class Control:
    """A T2I-Adapter or a ControlNet that fits the model.

    Args:
        module: diffusers' ``T2IAdapter`` or ``ControlNetModel``, in evaluation mode.

    Attributes:
        kind: which of the two.
        part: by what name its weights are known; the same for the same name on every start.
        fold: what the sides of its hint must be multiples of, in pixels.
        grey: its hint has one channel, and else three.
        notes: what a user should know of the file, one sentence each.
    """

    def __init__(
        self, kind: ControlKind, part: str, module: nn.Module, fold: int, *, grey: bool, notes: tuple[str, ...] = ()
    ) -> None:
        self.kind, self.part, self.fold, self.grey, self.notes = kind, part, fold, grey, notes
        self._module: nn.Module | None = module

    @property
    def module(self) -> nn.Module:
        """The module. Raises ``RuntimeError`` after ``close``."""
        if self._module is None:
            raise RuntimeError(f"the {self.kind.value} is closed")
        return self._module

    def close(self) -> None:
        """Let go of the weights, whoever still holds this."""
        self._module = None


def read_control(spec: str, family: Family, unet: UNetConfig, dtype: torch.dtype) -> Control:
    """The control that ``spec`` names, in main memory.

    Args:
        spec: a folder, a ``.safetensors`` file or a hub name (``owner/name``, ``owner/name@revision``).
        family, unet: of the model that it must fit.
        dtype: the number format of its weights in the model.

    Raises:
        ModelError: it is missing, damaged, stored as pickle, no control at all, or made for another family.
    """
    path = _found(spec)
    files = weight_files(path) if is_folder(path) else [path]
    shapes = {name: shape for file in files for name, shape in read_header(file).shapes.items()}
    kind = kind_of(str(path), shapes)
    config = _written_config(path, kind) if is_folder(path) else None
    what = f"the {kind.value} in {path}"
    stored = sound_state(files)
    with explained(what):
        state = adapter_state(stored) if kind is ControlKind.ADAPTER else controlnet_state(stored)
        if config is None:
            named = {name: tuple(tensor.shape) for name, tensor in state.items()}
            config = adapter_config(named) if kind is ControlKind.ADAPTER else controlnet_config(named)
    check_fit(str(path), kind, config, family, unet)
    config, state = _plain(str(path), config, state)
    module, unused = build_diffusers(what, control_classes()[kind.name], config, state, dtype)
    unused = [name for name in unused if not name.endswith(_NO_WEIGHTS)]
    channels = config.get("in_channels" if kind is ControlKind.ADAPTER else "conditioning_channels", 3)
    if channels not in (1, 3):
        raise ModelError(f"{path} is shown hints of {channels} channels; known are pictures in grey or in colour")
    fold = config.get("downscale_factor", 8) if kind is ControlKind.ADAPTER else 1
    return Control(
        kind,
        f"control_{hashlib.blake2b(spec.encode(), digest_size=6).hexdigest()}",
        module.eval().requires_grad_(False).to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        fold if isinstance(fold, int) else 1,
        grey=channels == 1,
        notes=(unused_note(path.name, unused, len(state), f"no {kind.value} has them"),) if unused else (),
    )


def _found(spec: str) -> Path:
    """The folder or file that ``spec`` means, downloaded first where it is a hub name."""
    path = user_path(spec)
    if not is_there(path) and looks_like_hub_id(spec):
        path = download_part(spec, "T2I-Adapter or ControlNet")
    if not is_folder(path) and not is_file(path):
        raise ModelError(
            f"there is no T2I-Adapter or ControlNet {spec!r}: give a .safetensors file, a folder, or a hub name "
            "(owner/name)"
        )
    return path


def _written_config(folder: Path, kind: ControlKind) -> dict[str, object] | None:
    """What the folder says of its control; None where it holds weights alone."""
    if not is_file(folder / _CONFIG):
        return None
    config = read_json(folder / _CONFIG)
    named = config.get("_class_name")
    if named is not None and named not in ("T2IAdapter", "ControlNetModel"):
        raise ModelError(f"{folder} holds a {named}, which is not known here; take a T2I-Adapter or a ControlNet")
    # Some folders have a configuration of another program; diffusers' names the structure.
    return config if ("channels" if kind is ControlKind.ADAPTER else "block_out_channels") in config else None


def _plain(
    what: str, config: Mapping[str, object], state: dict[str, torch.Tensor]
) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    """The same control, shown its hint as red, green and blue. Raises ``ModelError`` for one that sees no places."""
    if config.get("global_pool_conditions"):
        raise ModelError(
            f"{what} is a ControlNet that looks at its hint as a whole (shuffle), and keeps no shape; take another"
        )
    config = dict(config)
    if config.get(_ORDER, "rgb") == "bgr":
        config[_ORDER] = "rgb"
        state = {**state, _FIRST_OF_HINT: state[_FIRST_OF_HINT].flip(1)}
    return config, state
