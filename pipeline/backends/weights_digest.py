"""Digests of weights: an engine on disk is found by the digest of the very weights that are in it."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import torch

# The digests of as many modules are remembered.
_REMEMBERED = 16


def configuration(module: torch.nn.Module) -> str:
    """What a module of diffusers or transformers is configured as; the same for all models of its shape.

    What begins with an underscore says where the weights were read from and by what, not what they are.
    """
    config = getattr(module, "config", {})
    entries = config if isinstance(config, Mapping) else config.to_dict()
    config = {name: value for name, value in entries.items() if not name.startswith("_")}
    return repr(sorted(config.items()))


def weights_digest(module: torch.nn.Module) -> str:
    """Hexadecimal digest of a module's structure and of every weight and buffer in it."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(configuration(module).encode())
    digest.update(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Known:
    """A digest, the weights that it is of, and how often each had been written to."""

    weights: tuple[weakref.ref[torch.Tensor], ...]
    versions: tuple[int, ...]
    digest: str

    def is_of(self, weights: list[torch.Tensor]) -> bool:
        return len(weights) == len(self.weights) and all(
            known() is one for known, one in zip(self.weights, weights, strict=True)
        )


class WeightsDigests:
    """Digests of modules, computed anew only where a weight has been written to. Modules that share weights share one.

    These digests are only for looking engines up. An engine is *stored* under the digest of the copy of the weights
    that went into it, so that its key is right whoever writes to the model's weights, and whenever.
    """

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._lock = threading.Lock()

    def of(self, module: torch.nn.Module) -> str:
        """``weights_digest`` of ``module`` as it is now."""
        weights = [*module.parameters(), *module.buffers()]
        with self._lock:
            versions = tuple(0 if one.is_inference() else one._version for one in weights)
            found = next((known for known in self._known if known.is_of(weights)), None)
            if found is not None and found.versions == versions:
                return found.digest
            made = _Known(tuple(weakref.ref(one) for one in weights), versions, weights_digest(module))
            self._known = [made, *(known for known in self._known if known is not found)][:_REMEMBERED]
            return made.digest
