"""The tiny autoencoder, computing only what changed."""

from __future__ import annotations

from typing import Any

from pipeline.sparse.chain import Chain, Unsupported
from pipeline.sparse.region import Region

# The decoder's receptive radius covers the picture, so that its mask must be cut: this many pixels around a change.
DECODER_MARGIN = 8


class SparseAutoencoder:
    """Makes a diffusers ``AutoencoderTiny`` compute only what changed; ``inject`` and ``eject`` are exact inverses.

    The encoder is exact: a change spreads from layer to layer as far as it does. The decoder computes what lies within
    ``DECODER_MARGIN`` pixels of a change, and keeps the rest as it was.
    """

    def __init__(self, module: Any) -> None:
        """Raises:
        Unsupported: it is another autoencoder, or built of other layers.
        """
        if type(module).__name__ != "AutoencoderTiny":
            raise Unsupported(f"the autoencoder is an {type(module).__name__}; only AutoencoderTiny is run sparsely")
        config = module.config
        factor = 2 ** (len(config.encoder_block_out_channels) - 1)
        self._encoder = Chain(module.encoder.layers, 1, None)
        self._decoder = Chain(module.decoder.layers, factor, DECODER_MARGIN)

    def inject(self) -> None:
        """Take the module's calls; the first call of each half is dense."""
        self._encoder.inject()
        self._decoder.inject()

    def eject(self) -> None:
        """Give the module back as it was, and drop what is cached."""
        self._encoder.eject()
        self._decoder.eject()

    @property
    def injected(self) -> bool:
        """Whether the module's calls come here."""
        return self._encoder.injected and self._decoder.injected

    def forget(self) -> None:
        """Drop what is cached: the next calls are dense."""
        self._encoder.forget()
        self._decoder.forget()

    def encode_next(self, region: Region | None) -> None:
        """Say what changed in the pictures that are encoded next since those encoded last; None for all of it."""
        self._encoder.region = region

    def decode_next(self, region: Region | None) -> None:
        """Say where the latents that are decoded next differ from those decoded last; None for everywhere."""
        self._decoder.region = region

    @property
    def shares(self) -> dict[str, list[float]]:
        """Share of active tiles of each unit at the last calls, input to output."""
        return {"encode": self._encoder.shares, "decode": self._decoder.shares}

    @property
    def memory(self) -> int:
        """Bytes of the caches."""
        return self._encoder.memory + self._decoder.memory
