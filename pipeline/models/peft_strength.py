"""How strongly PEFT's LoRAs work, which stands beside the weights in its configuration."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.models.lora_names import LORA_PARTS
from pipeline.models.residency import DENOISER, TEXT, TEXT_2

# Where diffusers keeps the configuration: in the metadata of the file, from release 0.34 on.
_METADATA = "lora_adapter_metadata"
_NAMES = {DENOISER: "unet", TEXT: "text_encoder", TEXT_2: "text_encoder_2"}
# Where PEFT keeps it: in a file beside the weights.
_WEIGHTS, _CONFIGURATION = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Strength:
    """How strongly the LoRAs of one part work.

    Attributes:
        alpha: over the rank, it is what an update is multiplied with.
        alphas: of single layers, by their name or the end of it.
        stabilised: alpha stands over the square root of the rank (rsLoRA, arXiv 2312.03732).
    """

    alpha: float
    alphas: Mapping[str, float] = field(default_factory=dict)
    stabilised: bool = False

    def scale(self, stem: str, rank: int) -> float:
        """What the update of the layer that ``stem`` names is multiplied with, its inner size being ``rank``."""
        ends = (end for end in self.alphas if stem == end or stem.endswith(f".{end}"))
        alpha = self.alphas.get(next(ends, ""), self.alpha)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def read_strengths(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Strength], list[str]]:
    """The strength of each part that the configuration of the LoRA in ``path`` speaks of, and notes.

    Args:
        path: of the weights.
        metadata: of that file.
    """
    try:
        if _METADATA in metadata:
            written = json.loads(metadata[_METADATA])
            parts = {part: _of_part(written, f"{name}.") for part, name in _NAMES.items()}
        elif path.name == _WEIGHTS and path.with_name(_CONFIGURATION).is_file():
            written = json.loads(path.with_name(_CONFIGURATION).read_text(encoding="utf-8"))
            parts = dict.fromkeys(LORA_PARTS, _of_part(written, ""))
        else:
            return {}, []
        strengths = {part: _strength(entries) for part, entries in parts.items() if "lora_alpha" in entries}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}, [f"{path.name}: the strength that PEFT wrote beside the weights cannot be read, so that 1 is taken"]
    ends = {end for strength in strengths.values() for end in strength.alphas}
    patterns = sorted(end for end in ends if not re.fullmatch(r"[\w.]+", end))
    if not patterns:
        return strengths, []
    return strengths, [
        f"{path.name}: the strengths of some layers are given by patterns such as {patterns[0]!r}, which are not read, "
        "so that these layers have the strength of the others"
    ]


def _of_part(written: Mapping[str, object], prefix: str) -> dict[str, object]:
    return {name.removeprefix(prefix): value for name, value in written.items() if name.startswith(prefix)}


def _strength(entries: Mapping[str, object]) -> Strength:
    """Raises ``ValueError`` or ``TypeError`` where ``entries`` make none."""
    pattern, alpha = entries.get("alpha_pattern") or {}, entries["lora_alpha"]
    if not isinstance(pattern, dict) or not isinstance(alpha, int | float | str):
        raise TypeError("an alpha is not a number")
    alphas = {str(end): float(other) for end, other in pattern.items()}
    strength = Strength(float(alpha), alphas, bool(entries.get("use_rslora")))
    if not all(map(math.isfinite, (strength.alpha, *alphas.values()))):
        raise ValueError("an alpha is not finite")
    return strength
