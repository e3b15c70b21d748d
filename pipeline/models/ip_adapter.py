"""IP-Adapters (arXiv 2308.06721): what a file of one holds, and the keys and values that it makes of a picture.

The files are those of h94's repository, which other programs use as they are. Which kind of adapter it is, and for
which models, is told from the names and shapes of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.conditioning.attention import Attention, heads
from pipeline.conditioning.mixture import KeysValues
from pipeline.models.building import fill
from pipeline.models.errors import ModelError
from pipeline.models.families import SD1, SD2, SDXL, Family
from pipeline.models.image_encoder import EncoderFacts
from pipeline.models.ip_adapter_projection import HEAD_SIZE, FullProjection, PlainProjection, Resampler
from pipeline.models.weights import read_header, read_tensors

_PROJECTION = "image_proj."
_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.weight")
# A resampler is as deep as it has blocks: four in all that are about.
_BLOCK = re.compile(r"layers\.(\d+)\.")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class IpAdapterFacts:
    """What the header of an IP-Adapter's file shows.

    Attributes:
        pooled: whether it reads what the encoder says of the whole picture, and not of its parts.
        encoded: width of that.
        width: of its tokens, as the cross-attentions of the model take them.
        layers: for each cross-attention the names of its two tensors, of keys and of values, and the width of both.
    """

    pooled: bool
    encoded: int
    width: int
    layers: tuple[tuple[str, str, int], ...]

    def reads(self, encoder: EncoderFacts) -> bool:
        """Whether this is an encoder that the adapter can read."""
        return self.encoded == (encoder.pooled_width if self.pooled else encoder.width)

    def obstacle(self, attentions: Sequence[Attention], width: int) -> str | None:
        """Why the adapter is none for a model with these cross-attentions to tokens so ``wide``, or None.

        It is the end of a sentence that begins with the adapter's name.
        """
        if self.width != width:
            made_for = _BY_WIDTH.get(self.width)
            models = "another family of models" if made_for is None else made_for.title
            return f"was made for {models}: its tokens are {self.width} wide, and this model takes {width}"
        own, inner = [one for *_, one in self.layers], [_inner_width(one) for one in attentions]
        if len(own) != len(inner):
            return f"was made for another model: for {len(own)} cross-attentions, and this one has {len(inner)}"
        if own != inner:
            return "was made for another model: the widths of its cross-attentions are others than this one's"
        return None


# The width of the tokens that the cross-attentions of each family take.
_BY_WIDTH: Mapping[int, Family] = {768: SD1, 1024: SD2, 2048: SDXL}


def _inner_width(attention: Attention) -> int:
    return next(attention.to_q.parameters()).shape[0]


class IpAdapter:
    """An IP-Adapter in main memory; nothing of it ever changes.

    Its layers are kept as they are stored, and calculate in float32 on the CPU: once a picture, beside the stream.

    Args:
        path: a safetensors file.

    Attributes:
        facts: what its header says.

    Raises:
        ModelError: it is a pickle, damaged, or no IP-Adapter that can be used.
    """

    def __init__(self, path: Path) -> None:
        self.facts = read_facts(path)
        state = read_tensors(path)
        inner = {name.removeprefix(_PROJECTION): one for name, one in state.items() if name.startswith(_PROJECTION)}
        shapes = {name: tuple(one.shape) for name, one in inner.items()}
        what = f"the IP-Adapter {path}"
        try:
            with torch.device("meta"):
                projection = _projection(shapes)
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise ModelError(f"{what} is damaged: its tensors do not fit each other; get the file again") from error
        self._projection = fill(what, projection, inner)
        self._layers = [state[name] for keys, values, _ in self.facts.layers for name in (keys, values)]

    @torch.inference_mode()
    def keys_values(self, encoded: torch.Tensor, attentions: Sequence[Attention]) -> KeysValues:
        """For each of ``attentions`` keys and values in turn, (1, heads, L, size) float32.

        Args:
            encoded: what an encoder says of one picture, (1, D') of the whole or (1, L', D) of its parts.
        """
        tokens = self._projection(encoded.float())
        per_head = [one.heads for one in attentions for _ in range(2)]
        projected = zip(self._layers, per_head, strict=True)
        return [heads(F.linear(tokens, weight.float()), count) for weight, count in projected]


def read_facts(path: Path) -> IpAdapterFacts:
    """What the IP-Adapter ``path`` is; no tensor is read.

    Raises:
        ModelError: it is a pickle, damaged, or no IP-Adapter that can be used.
    """
    shapes = read_header(path).shapes
    projection = {name.removeprefix(_PROJECTION): one for name, one in shapes.items() if name.startswith(_PROJECTION)}
    found = [(int(match[1]), match[2]) for name in shapes if (match := _LAYER.fullmatch(name))]
    if not projection or not found:
        raise ModelError(
            f"{path} is no IP-Adapter: it has no tensors image_proj.* and ip_adapter.*.to_k_ip.weight; "
            "take one such as ip-adapter_sd15.safetensors"
        )
    if _is_of_faces(shapes, projection):
        raise ModelError(
            f"{path} is an IP-Adapter FaceID, which needs a network that recognises faces and may not be used "
            "commercially; take ip-adapter-plus-face instead, which needs none"
        )
    damaged = ModelError(f"{path} is damaged: its tensors are not those of an IP-Adapter; get the file again")
    numbers = sorted({number for number, _ in found})
    names = [tuple(f"ip_adapter.{number}.to_{which}_ip.weight" for which in "kv") for number in numbers]
    try:
        pooled, encoded, width = _widths(projection)
        layers = tuple((keys, values, shapes[keys][0]) for keys, values in names)
        fitting = all(shapes[name] == (inner, width) for *both, inner in layers for name in both)
    except (KeyError, IndexError) as error:
        raise damaged from error
    if not fitting:
        raise damaged
    return IpAdapterFacts(pooled, encoded, width, layers)


def is_ip_adapter(shapes: Shapes) -> bool:
    """Whether a file with tensors of these names is an IP-Adapter, of whichever kind."""
    return any(name.startswith("ip_adapter.") for name in shapes)


def _is_of_faces(shapes: Shapes, projection: Shapes) -> bool:
    plain = "proj.weight" in projection or "proj.3.weight" in projection or "latents" in projection
    adapted = any("_lora." in name for name in shapes)
    return adapted or any("perceiver_resampler" in name for name in projection) or not plain


def _widths(shapes: Shapes) -> tuple[bool, int, int]:
    """Whether the whole picture is read, the width of what is read, and that of a token."""
    if "proj.weight" in shapes:
        return True, shapes["proj.weight"][1], shapes["norm.weight"][0]
    if "proj.3.weight" in shapes:
        return False, shapes["proj.0.weight"][1], shapes["proj.3.weight"][0]
    return False, shapes["proj_in.weight"][1], shapes["proj_out.weight"][0]


def _projection(shapes: Shapes) -> nn.Module:
    pooled, encoded, width = _widths(shapes)
    if pooled:
        return PlainProjection(encoded, width)
    if "proj.3.weight" in shapes:
        return FullProjection(encoded, width)
    _, tokens, inner = shapes["latents"]
    attended, spread = shapes["layers.0.0.to_q.weight"][0], shapes["layers.0.1.1.weight"][0]
    depth = len({match[1] for name in shapes if (match := _BLOCK.match(name))})
    if attended % HEAD_SIZE:
        raise ValueError(f"heads of {HEAD_SIZE} do not fit into {attended}")
    return Resampler(encoded, inner, width, tokens, attended, spread, depth)
