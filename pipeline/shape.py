"""Keeping the shape of what comes in: hints of each frame, which T2I-Adapters and ControlNets are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from pipeline.backends.backend import Backend
from pipeline.companions import Hints
from pipeline.config import StreamConfig
from pipeline.models.control_layouts import ControlKind
from pipeline.models.control_networks import SHOWN_TO_CONTROLNETS, AdapterNetwork, ControlNetUse, HintNetwork
from pipeline.models.model import Model


class MakeHints(Protocol):
    """Makes hints (``pipeline.hints.hints.Hints``)."""

    def __call__(self, names: Iterable[str], frames: torch.Tensor, /) -> Mapping[str, torch.Tensor]:
        """The hints of these names of frames (F, 3, H, W): by name, (F, 3, H, W) in 0..1 each."""
        ...

    def reset(self) -> None:
        """The next frames are of another source."""
        ...


@dataclass(frozen=True, slots=True)
class _Shown:
    """A network that is shown a hint.

    Attributes:
        network: of an adapter, or the embedding of a ControlNet's hint.
        hint: the name of the hint.
        fold: what the sides of the hint must be multiples of.
        weight: of an adapter; a ControlNet's is taken where it is called.
        brings: the name of what a frame brings of it; empty for adapters, whose features are summed.
    """

    network: AdapterNetwork | HintNetwork
    hint: str
    fold: int = 1
    weight: float = 1.0
    brings: str = ""


class ShapeKeeper:
    """Companion: the features that T2I-Adapters make of a frame's hints, and what its ControlNets are shown of them.

    The features of several adapters are summed by their weights, as one adapter's would be, so that the denoiser is
    the same for any number of them. Frames in flight keep the features that they have brought.

    Args:
        model: with the T2I-Adapters and ControlNets that its settings name.
        make: makes hints of frames.

    Attributes:
        controlnets: those to call at each step.
        hint: (F, 3, H, W) in 0..1, of those that the last frames were shown the one of most weight; None for none.
    """

    def __init__(self, model: Model, make: MakeHints) -> None:
        self.controlnets: tuple[ControlNetUse, ...] = ()
        self._controls, self._dtype = model.controls, model.dtype
        self._make = make
        self._shown: tuple[_Shown, ...] = ()
        self._weightiest = ""
        self.hint: torch.Tensor | None = None

    def follow(self, config: StreamConfig) -> None:
        """Keep what ``config`` asks for; its T2I-Adapters and ControlNets have been read, and are the model's parts."""
        shown: list[_Shown] = []
        controlnets: list[ControlNetUse] = []
        for shape in self._controls.wanted(config):
            weight = shape.weight * config.shape_strength
            if not weight:
                continue
            control = self._controls.control(shape.model)
            if control.kind is ControlKind.ADAPTER:
                shown.append(_Shown(AdapterNetwork(control, self._dtype), shape.hint, control.fold, weight))
            else:
                brings = f"{SHOWN_TO_CONTROLNETS}{control.part}/{shape.hint}"
                shown.append(_Shown(HintNetwork(control, self._dtype), shape.hint, brings=brings))
                controlnets.append(ControlNetUse(control, brings, weight))
        self._shown, self.controlnets = tuple(shown), tuple(controlnets)
        self._weightiest = max(self._controls.wanted(config), key=lambda one: one.weight).hint if shown else ""

    def let_go(self) -> None:
        """Keep nothing, and hold no T2I-Adapter and no ControlNet."""
        self._shown, self.controlnets, self.hint = (), (), None

    def bring(self, frames: torch.Tensor, backend: Backend, hints: Hints) -> dict[str, torch.Tensor]:
        """See ``Companion``.

        Raises:
            ValueError: a hint that was given is of another size than the frames.
        """
        if not self._shown:
            self.hint = None
            return {}
        names = dict.fromkeys(one.hint for one in self._shown)
        missing = [name for name in names if name not in hints]
        pictures = dict(self._make(missing, frames)) if missing else {}
        pictures |= {name: _checked(name, hints[name], frames) for name in names if name in hints}
        self.hint = pictures[self._weightiest]
        brought: dict[str, torch.Tensor] = {}
        features: dict[str, torch.Tensor] = {}
        for one in self._shown:
            found = backend.run(one.network, {"pictures": _folding(pictures[one.hint], one.fold)}, {})
            if one.brings:
                brought[one.brings] = found["hint"]
                continue
            for name, feature in found.items():
                weighted = feature if one.weight == 1 else feature * one.weight
                features[name] = features[name] + weighted if name in features else weighted
        return brought | features

    def reset(self) -> None:
        """See ``Companion``."""
        self._make.reset()


def _checked(name: str, hint: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """A hint that was given, for each frame; one picture (3, H, W) serves all of them."""
    hint = hint if hint.ndim == 4 else hint[None]
    if hint.shape[1:] != frames.shape[1:] or len(hint) not in (1, len(frames)) or not hint.is_floating_point():
        raise ValueError(
            f"the hint {name!r} is {hint.dtype} of shape {tuple(hint.shape)}; it must be float, in 0..1, of the shape "
            f"of the frames, {tuple(frames.shape)}"
        )
    return hint.expand(len(frames), -1, -1, -1)


def _folding(pictures: torch.Tensor, fold: int) -> torch.Tensor:
    """The pictures with the last rows and columns repeated up to a multiple of ``fold``; most are of one."""
    height, width = pictures.shape[2:]
    if not (height % fold or width % fold):
        return pictures
    return F.pad(pictures, (0, -width % fold, 0, -height % fold), mode="replicate")
