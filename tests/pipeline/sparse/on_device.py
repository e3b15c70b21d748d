"""A check that work is done where the tensors are, for a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class AllOnDevice(TorchDispatchMode):
    """Fails where an operation inside makes a tensor on another device than the one given.

    Such a tensor would have to be uploaded, for which the host of a GPU waits.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.operations = 0
        self._device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            assert not isinstance(one, torch.Tensor) or one.device == self._device, f"{func} is done on {one.device}"
        self.operations += 1
        return found
