"""T2I-Adapters and ControlNets beside a loaded model: read while the stream runs, shared, and given back."""

from __future__ import annotations

import threading
import weakref

import torch

from pipeline.config import StreamConfig
from pipeline.models.control_files import Control, read_control
from pipeline.models.errors import ModelError
from pipeline.models.families import Family, unsupported_by
from pipeline.models.memory import WeightPlaces
from pipeline.models.modules import UNetConfig
from pipeline.shape_list import Shape, parse_shapes


class Controls:
    """The T2I-Adapters and ControlNets of one model.

    ``read`` may run on any thread, at any time; ``follow`` on a thread that runs the model, between two calls. Nothing
    of the model itself is changed by them, so that each stream on it has those that its own settings ask for.

    Args:
        family, unet: of the model.
        device, dtype: where and in which number format it runs.
        memory: where its weights lie; those of controls lie there, too.
    """

    def __init__(
        self, family: Family, unet: UNetConfig, device: torch.device, dtype: torch.dtype, memory: WeightPlaces
    ) -> None:
        self._family, self._unet, self._device, self._dtype = family, unet, device, dtype
        self._memory = memory
        self._read: dict[str, Control] = {}  # by the name that they were asked for by
        self._used: set[str] = set()  # those of ``_read`` that are parts of the model by now
        self._followers: weakref.WeakKeyDictionary[object, frozenset[str]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # held while ``_read`` changes, as ``read`` may run on another thread

    def wanted(self, config: StreamConfig) -> tuple[Shape, ...]:
        """What ``config`` asks to keep, each with the name of a control.

        Raises:
            ModelError: there is none for this model.
        """
        return tuple(self._named(shape) for shape in parse_shapes(config.keep_shape))

    def _named(self, shape: Shape) -> Shape:
        unsupported = unsupported_by(self._family)
        if "keep_shape" in unsupported:
            raise ModelError(unsupported["keep_shape"])
        model = shape.model or self._family.adapters.get(shape.hint, "")
        if not model:
            raise ModelError(
                f"no T2I-Adapter for {shape.hint} is usual for {self._family.title}; name a T2I-Adapter or a "
                f"ControlNet for it: {shape.hint}:{shape.weight:g} @ FILE"
            )
        return Shape(shape.hint, shape.weight, model)

    def is_ready(self, config: StreamConfig) -> bool:
        """Whether all that ``config`` asks for has been read; also where it cannot be had at all: ``read`` tells."""
        if not config.keep_shape:
            return True
        try:
            return all(shape.model in self._read for shape in self.wanted(config))
        except ModelError:
            return False

    def read(self, config: StreamConfig) -> list[str]:
        """Read what ``config`` asks for and has not been read; notes on what is odd about it.

        Raises:
            ModelError: a file is missing, damaged, or made for another model; or there is none for this one.
        """
        notes: list[str] = []
        asked = {shape.model for shape in self.wanted(config)}
        with self._lock:  # what an earlier call has read, and nobody has taken, was passed by
            for name in [name for name in self._read if name not in asked and name not in self._used]:
                del self._read[name]
        for name in sorted(asked - self._read.keys()):
            control = read_control(name, self._family, self._unet, self._dtype)
            if self._memory.mode != "offload":
                control.module.to(self._device)  # here, so that no frame waits for it
            with self._lock:
                self._read[name] = control
            notes += control.notes
        return notes

    def follow(self, config: StreamConfig, follower: object) -> None:
        """Make those that ``config`` asks for parts of the model, and let go of others that nobody asks for any more.

        What has not been read is read here, and holds up the stream.

        Args:
            follower: the user of the model for whom this is done; see ``release``.
        """
        self.read(config)
        asked = frozenset(shape.model for shape in self.wanted(config))
        for name in asked - self._used:
            control = self._read[name]
            self._memory.admit(control.part, control.module)
            self._used.add(name)
        self._followers[follower] = asked
        self._let_go()

    def release(self, follower: object) -> None:
        """``follower`` no longer uses the model."""
        self._followers.pop(follower, None)
        self._let_go()

    def control(self, name: str) -> Control:
        """The one that was asked for by this name, which somebody follows."""
        return self._read[name]

    def _let_go(self) -> None:
        for name in self._used.difference(*self._followers.values()):
            with self._lock:
                control = self._read.pop(name)
            self._used.discard(name)
            self._memory.dismiss(control.part)
            control.close()
