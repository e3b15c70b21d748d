"""Prompts of earlier processes on disk: their embeddings, and the keys and values that cross-attention makes of them.

With these a stream begins before the text encoders and the UNet have been read. They are kept under the identity of the
model's files, and used only while its weights are those of the files. A prompt's text is not written down: files are
named by a digest of it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline.conditioning.attention import project
from pipeline.conditioning.embedding import Embedding
from pipeline.file_cache import FileCache, cache_folder, key_of
from pipeline.models.residency import DENOISER, Residency

if TYPE_CHECKING:
    from torch import nn

    from pipeline.conditioning.mixture import KeysValues

_VERSION = 1
# Some hundred prompts of Stable Diffusion 1.
_MOST_BYTES = 2**28


class KeptPrompts:
    """The prompts of one model.

    Args:
        identity: of the model's files (``StartRecord.identity``).
        is_read: whether the model's modules are there, so that nothing need be looked up any more.
    """

    def __init__(self, identity: str, is_read: Callable[[], bool]) -> None:
        self._identity = identity
        self._is_read = is_read
        self._cache = FileCache(cache_folder() / "prompts", "prompt", _VERSION, _MOST_BYTES)

    def find(self, prompt: str) -> Embedding | None:
        """The embedding that ``keep`` was given for ``prompt``."""
        found = self._load(self._key(prompt=_digest(prompt.encode("utf-8", "surrogatepass"))))
        return None if found is None or "tokens" not in found else Embedding(found["tokens"], found.get("pooled"))

    def keep(self, prompt: str, embedding: Embedding) -> None:
        """Keep the embedding of ``prompt`` for the next process; it is written beside."""
        tensors = {"tokens": embedding.tokens} | ({} if embedding.pooled is None else {"pooled": embedding.pooled})
        self._store(self._key(prompt=_digest(prompt.encode("utf-8", "surrogatepass"))), tensors)

    def find_keys_values(self, tokens: torch.Tensor) -> list[torch.Tensor] | None:
        """What ``keep_keys_values`` was given for the very same ``tokens`` (1, L, D)."""
        found = self._load(self._key(tokens=_digest(_bytes(tokens))))
        return None if found is None else [found[str(number)].transpose(1, 2) for number in range(len(found))]

    def keep_keys_values(self, tokens: torch.Tensor, found: KeysValues) -> None:
        """Keep what ``project`` has made of ``tokens``, (1, heads, L, size) each; it is written beside."""
        tensors = {str(number): tensor.transpose(1, 2) for number, tensor in enumerate(found)}
        self._store(self._key(tokens=_digest(_bytes(tokens))), tensors)

    def _key(self, **what: str) -> str:
        return key_of(model=self._identity, **what)

    def _load(self, key: str) -> dict[str, torch.Tensor] | None:
        stored = None if self._is_read() else self._cache.load(key)
        try:
            return None if stored is None else load(stored)
        except SafetensorError:
            return None

    def _store(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        def write() -> None:
            self._cache.store(key, save({name: tensor.contiguous() for name, tensor in tensors.items()}))

        if not self._cache.path(key).exists():
            threading.Thread(target=write, name="vitrail-prompts", daemon=True).start()


class Projection:
    """Keys and values of prompts: those that are kept, or made by the denoiser (``project``).

    Args:
        residency: knows whether the denoiser's weights are still those of the files.
        denoiser: gives it; it may have to be read first.
        kept: those of earlier processes; None where none are kept.
    """

    def __init__(self, residency: Residency, denoiser: Callable[[], nn.Module], kept: KeptPrompts | None) -> None:
        self._residency = residency
        self._denoiser = denoiser
        self._kept = kept

    def __call__(self, tokens: torch.Tensor) -> KeysValues:
        """See ``pipeline.conditioning.attention.project``."""
        kept = None if self._residency.revision(DENOISER) else self._kept
        found = None if kept is None else kept.find_keys_values(tokens)
        if found is None:
            found = project(self._denoiser(), tokens)
            if kept is not None:
                kept.keep_keys_values(tokens, found)
        return found


def _bytes(tokens: torch.Tensor) -> bytes:
    return tokens.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=20).hexdigest()
