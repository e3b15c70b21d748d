"""Running a model in less device memory than its weights take: they stay in main memory, and layers borrow them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.config import MEMORY_MODES
from pipeline.models.residency import PARTS, Residency

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from pipeline.models.autoencoder import Autoencoder


class WeightPlaces:
    """Where a model's weights lie: on the device, or with ``offload`` in main memory.

    With ``offload`` each layer's weights are on the device while it runs and no longer, and the text encoders run on
    the CPU. Both ways lead back exactly. How many rows run at a time in the modes that save memory is the backend's
    business (``pipeline.backends.sliced``).

    Args:
        residency: the owner of the weights.
        denoiser, text_encoders: give the modules, which may have to be read first.
        autoencoder: the autoencoder.
        device: where the model runs.

    Attributes:
        mode: one of ``MEMORY_MODES``.
    """

    def __init__(
        self,
        residency: Residency,
        denoiser: Callable[[], nn.Module],
        autoencoder: Autoencoder,
        text_encoders: Callable[[], Sequence[nn.Module]],
        device: torch.device,
    ) -> None:
        self.mode = "full"
        self._residency = residency
        self._device = device
        self._text_encoders = text_encoders
        self._denoiser, self._autoencoder = denoiser, autoencoder
        self._offloads: list[LayerOffload] = []  # made where weights are first moved
        self._guests: dict[str, LayerOffload] = {}  # of networks that are used with the model, by their part

    def set(self, mode: str) -> None:
        """Change to ``mode``; where the memory does not suffice for it, the mode before stays in force.

        Raises:
            ValueError: there is no such mode.
            torch.OutOfMemoryError: the device has no room for the weights.
        """
        if mode not in MEMORY_MODES:
            raise ValueError(f"the memory is {mode!r}; it must be one of {', '.join(MEMORY_MODES)}")
        if (mode == "offload") != (self.mode == "offload"):
            with self._residency.changing(*PARTS, *self._guests, moved=True):
                try:
                    self._place(in_main_memory=mode == "offload")
                except BaseException:
                    self._place(in_main_memory=self.mode == "offload")
                    raise
        self.mode = mode

    def admit(self, part: str, module: nn.Module) -> None:
        """Have the weights of a further network where those of the model are; ``dismiss`` ends that.

        Args:
            part: its name among the parts of the model.
            module: in main memory or on the device.

        Raises:
            torch.OutOfMemoryError: the device has no room for it.
        """
        self._residency.admit(part)
        guest = LayerOffload(module, self._device)
        with self._residency.changing(part, moved=True):
            guest.inject() if self.mode == "offload" else guest.eject()
            self._guests[part] = guest

    def dismiss(self, part: str) -> None:
        """The network of ``part`` is used no more: whatever was made of its weights is dropped."""
        with self._residency.changing(part, moved=True):
            del self._guests[part]

    def _place(self, *, in_main_memory: bool) -> None:
        if not self._offloads:
            self._offloads.append(LayerOffload(self._denoiser(), self._device))
            if not self._autoencoder.is_tiny:  # a tiny one takes so little that the way would cost more than it saves
                self._offloads.append(LayerOffload(self._autoencoder.module, self._device))
        for offload in (*self._offloads, *self._guests.values()):
            offload.inject() if in_main_memory else offload.eject()
        for encoder in self._text_encoders():
            encoder.to("cpu" if in_main_memory else self._device)


class LayerOffload:
    """Keeps a module's weights in main memory; a layer's are on ``device`` while it runs, and no longer.

    ``inject`` and ``eject`` are exact inverses. The parameters stay the same objects, so that whoever changes them (a
    LoRA) changes what is taken to the device the next time. A copy of the module that shares its weights lends them
    in the same way.

    Args:
        module: whose weights they are.
        device: where the layers run.
        dtype: the number format in which they are lent; by default that in which they are kept.
    """

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self._module = module
        self._device, self._dtype = device, dtype
        self._hooks: list[RemovableHandle] = []

    def inject(self) -> None:
        """Take the weights to main memory; buffers, which are small, stay on the device."""
        self._module.to("cpu")
        self._unhook()
        for layer in self._module.modules():
            for name, buffer in layer._buffers.items():
                layer._buffers[name] = None if buffer is None else buffer.to(self._device)
            if any(parameter is not None for parameter in layer._parameters.values()):
                loan = _Loan(self._device, self._dtype)
                self._hooks.append(layer.register_forward_pre_hook(loan.begin))
                # Called even after an error: a layer that ran out of memory must get its weights back, too.
                self._hooks.append(layer.register_forward_hook(loan.end, always_call=True))

    def eject(self) -> None:
        """Take the weights to the device, to stay."""
        self._module.to(self._device)
        self._unhook()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


class _Loan:
    """The weights of one layer, while they are on the device. A copy of the layer has a loan of its own."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        self._device, self._dtype = device, dtype
        self._kept: dict[str, nn.Parameter | None] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> _Loan:
        made = memo[id(self)] = _Loan(copy.copy(self._device), self._dtype)
        return made

    def begin(self, layer: nn.Module, _: object) -> None:
        self._kept = dict(layer._parameters)
        for name, parameter in self._kept.items():
            if parameter is not None:
                lent = parameter.to(self._device, self._dtype or parameter.dtype, non_blocking=True)
                layer._parameters[name] = lent  # type: ignore[assignment]

    def end(self, layer: nn.Module, *_: object) -> None:
        layer._parameters.update(self._kept)
        self._kept = {}
