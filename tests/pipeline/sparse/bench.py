"""A sparse UNet beside the plain one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pipeline.backends.eager import EagerBackend
from pipeline.conditioning.conditions import Rows
from pipeline.denoiser import Denoiser
from pipeline.models.model import Model
from pipeline.models.networks import DenoiserNetwork
from pipeline.sparse.networks import SparseNetworks
from pipeline.sparse.rectangles import Change, Rectangle
from pipeline.sparse.trial import TRIALS, Trial
from pipeline.sparse.unet import SparseUNet
from tests.pipeline.backends.calls import RecordingBackend
from tests.tiny_model import tiny_model

TIMESTEPS = (300, 700, 900, 100)
# How much of what is inside a change becomes new noise.
NEW = 0.37


class Bench:
    """Both, on latents ``before`` a change and ``after`` it."""

    def __init__(
        self,
        rows: int = 1,
        size: tuple[int, int] = (32, 24),
        model: Model | None = None,
        backend: RecordingBackend | None = None,
        *,
        surrounded: bool | None = None,
    ) -> None:
        """``surrounded``: what its trial is taken to have found out; by default there is none yet."""
        self.model = model or tiny_model()
        self.backend = backend or RecordingBackend(EagerBackend(self.model))
        self.sparse = SparseUNet(SparseNetworks(self.model, self.backend))
        if surrounded is not None:
            self.sparse._trial = Trial((9.9,), (0.0,) * TRIALS) if surrounded else Trial((0.0,) * TRIALS)
            self.sparse._networks.surround(surrounded)
        self._plain = EagerBackend(self.model)
        denoiser = Denoiser(self.model, self._plain)
        denoiser.set_prompts("a watercolour")
        self.timesteps = torch.tensor(TIMESTEPS[:rows])
        self.conditions = denoiser._conditioning.laid_out(Rows(((0, rows),), *size))
        generator = torch.Generator().manual_seed(1)
        self.before = torch.randn(rows, 4, *size, generator=generator)
        self.after = self.before + torch.randn(rows, 4, *size, generator=generator)

    @property
    def wholes(self) -> int:
        """How often the sparse UNet has had the plain one run on the whole."""
        return len(self.backend.shapes(DenoiserNetwork.name))

    @torch.inference_mode()
    def dense(self, latents: torch.Tensor) -> torch.Tensor:
        """What the plain UNet makes of them."""
        moving = {"rows": latents, "timesteps": self.timesteps}
        return self._plain.run(DenoiserNetwork(self.model), moving, self.conditions)["output"]

    def __call__(self, latents: torch.Tensor, changes: Sequence[Change]) -> torch.Tensor:
        return self.sparse(latents, self.timesteps, self.conditions, changes)

    def mixed(self, row: int, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
        """The latents before, and those after in a rectangle of one row."""
        latents = self.before.clone()
        latents[row, :, top:bottom, left:right] = self.after[row, :, top:bottom, left:right]
        return latents

    def changed(self, places: Sequence[Rectangle], seed: int) -> torch.Tensor:
        """The latents before, where so much is new at ``places`` as in the change of a real picture.

        Their variance stays as it is. No ``seed`` may be that of ``before``, or the change would be one of contrast.
        """
        noise = torch.randn(self.before.shape, generator=torch.Generator().manual_seed(seed))
        latents = self.before.clone()
        for left, top, right, bottom in places:
            inside = (..., slice(top, bottom), slice(left, right))
            latents[inside] = math.sqrt(1 - NEW**2) * latents[inside] + NEW * noise[inside]
        return latents


def pixels(*latent: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (8 * side for side in latent)
    return left, top, right, bottom


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root of the mean square, relative to that of ``b``."""
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())
