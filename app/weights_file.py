"""A .safetensors file that someone hands over: for which setting it is, told from what it says it holds."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings
from pipeline.adapter_list import entries_of, parse_loras, quoted
from pipeline.shape_list import hint_of_name, parse_shapes

SUFFIX = ".safetensors"
_MOST_WORDS = 2  # tensors in the file of a learned word: one for each text encoder


class WeightsError(Exception):
    """The file cannot be used. The message is one sentence for the user."""


def with_weights(settings: Settings, path: Path) -> tuple[dict[str, str], str]:
    """What to change in the settings to use ``path``: a LoRA, a learned word or a control of the shape is added.

    A model and an IP-Adapter take the place of the one before.

    Returns:
        The changed values by name, and what the file is, for people.

    Raises:
        WeightsError: it is a pickle, damaged, or cannot be read.
    """
    # Here and not above: these import torch, and so does whatever reads such a file.
    from pipeline.models.control_layouts import control_kind
    from pipeline.models.errors import ModelError
    from pipeline.models.ip_adapter import is_ip_adapter
    from pipeline.models.lora import is_lora
    from pipeline.models.weights import read_header

    try:
        names = read_header(path).shapes
    except ModelError as error:
        raise WeightsError(f"{error}.") from error
    if is_lora(names):
        return {"loras": _added(settings.stream.loras, path)}, "LoRA"
    if is_ip_adapter(names):
        return {"look_model": str(path)}, "IP-Adapter"
    control = control_kind(names)
    if control is not None:
        hint = hint_of_name(path.name)
        return {"keep_shape": _with_control(settings.stream.keep_shape, hint, path)}, f"{control.value} for {hint}"
    if len(names) <= _MOST_WORDS:
        return {"embeddings": _added(settings.stream.embeddings, path)}, "learned word"
    return {"model": str(path)}, "model"


def _with_control(listed: str, hint: str, path: Path) -> str:
    """``listed`` with this control, whose hint may be changed by hand where the name of the file misleads."""
    if any(shape.model == str(path) for shape in parse_shapes(listed)):
        return listed
    return "; ".join([*entries_of(listed), f"{hint}:0.8 @ {quoted(str(path))}"])


def _added(listed: str, path: Path) -> str:
    known = any(name == str(path) for name, _ in parse_loras(listed))
    return listed if known else "; ".join(filter(None, (listed.strip(" ;\n"), quoted(str(path)))))
