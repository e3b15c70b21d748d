"""What tells weights apart: engines on disk are known by the digest of the very weights that are in them."""

from __future__ import annotations

import hashlib
import threading
import weakref

import torch

# Identity and version of every weight: another one, or one that was written to since, is told by it at once.
_Stamp = tuple[tuple[int, int], ...]


def weights_digest(module: torch.nn.Module) -> str:
    """Hexadecimal digest of a module's structure and of every weight and buffer in it."""
    digest = hashlib.blake2b(digest_size=16)
    # What begins with an underscore says where the weights were read from and by what, not what they are.
    config = {name: value for name, value in getattr(module, "config", {}).items() if not name.startswith("_")}
    digest.update(repr(sorted(config.items())).encode())
    digest.update(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


class WeightsDigests:
    """Digests of modules, computed anew only where a weight has been written to.

    For looking engines up. What is *stored* is known by the digest of the copy that went into it, so that no key can
    be another weights', whoever writes to them and whenever.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[torch.nn.Module, tuple[_Stamp, str]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, module: torch.nn.Module) -> str:
        """``weights_digest`` of ``module`` as it is now."""
        with self._lock:
            stamp = _stamp(module)
            known = self._known.get(module)
            if known is None or known[0] != stamp:
                known = self._known[module] = stamp, weights_digest(module)
            return known[1]


def _stamp(module: torch.nn.Module) -> _Stamp:
    tensors = [*module.parameters(), *module.buffers()]
    return tuple((id(one), 0 if one.is_inference() else one._version) for one in tensors)
