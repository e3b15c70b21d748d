"""Guidance as pure functions: which rows the UNet is given, and how their outputs become one data prediction.

Residual classifier-free guidance (RCFG; StreamDiffusion, arXiv 2312.12491, section 3.2) replaces the UNet's answer to
the negative prompt by a *virtual* residual noise ``v = (x - alpha x0*) / sigma``, and guides by

    eps = delta v + g (eps_c - delta v)

where ``x0*`` is the input latent (self-negative), or the data prediction of one UNet call under the negative prompt at
the first step (onetime-negative). Written for data predictions that is linear as well::

    x0 = g x0_c + delta (1 - g) x0* + (1 - g) (1 - delta) / alpha x

so it costs one multiply-add a slot, has no recursion, and nothing in it can drift. Where there is no signal at all
(alpha = 0, the beginning of flow matching) a residual noise says nothing about the data unless delta is 1, and so it
counts as 1 there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.diffusion.solver import SolverTable

POSITIVE, NEGATIVE = 0, 1

# The rows of one UNet call, in order: (which prompt, how many rows).
RowLayout = tuple[tuple[int, int], ...]


def row_layout(kind: str, slots: int, frames: int, first: bool, image: bool = False) -> RowLayout:
    """The rows of a call over ``slots`` slots of ``frames`` frames each.

    Args:
        kind: ``none``, ``full``, ``self-negative`` or ``onetime-negative``.
        first: whether slot 0 is among them; only there does onetime-negative ask for the negative prompt.
        image: whether full guidance also asks for the answer without the input picture.
    """
    rows = slots * frames
    if kind == "full" and image:
        return ((POSITIVE, rows), (NEGATIVE, rows), (NEGATIVE, rows))
    if kind == "full":
        return ((POSITIVE, rows), (NEGATIVE, rows))
    if kind == "onetime-negative" and first:
        return ((POSITIVE, rows), (NEGATIVE, frames))
    return ((POSITIVE, rows),)


def needs_negative_prompt(kind: str) -> bool:
    """Whether the UNet is ever asked about the negative prompt."""
    return kind in ("full", "onetime-negative")


def combine_full(positive: torch.Tensor, negative: torch.Tensor, scale: float) -> torch.Tensor:
    """Classifier-free guidance (arXiv 2207.12598, eq. 6) on model outputs of any prediction type."""
    return torch.lerp(negative, positive, scale)


def combine_image(outputs: torch.Tensor, scale: float, image_scale: float) -> torch.Tensor:
    """Guidance by prompt and by input picture (InstructPix2Pix, arXiv 2211.09800, eq. 3).

    Args:
        outputs: (3, ...) model outputs: with prompt and picture, with the picture alone, with neither.
        scale: how far to go from the picture alone to prompt and picture.
        image_scale: how far to go from neither to the picture; at 1 this is ``combine_full``.
    """
    both, picture, neither = outputs
    return neither + scale * (both - picture) + image_scale * (picture - neither)


def rescaled(guided: torch.Tensor, unguided: torch.Tensor, amount: float) -> torch.Tensor:
    """Give guided data predictions back the contrast that they would have without guidance.

    Guidance goes beyond what the model answers, so that light parts turn white and dark ones black. Rescaling (arXiv
    2305.08891, algorithm 2) is done here on data predictions, which is where that can be seen, and so for every
    guidance and prediction type alike.

    Args:
        guided, unguided: (..., C, h, w), each frame for itself.
        amount: 0 (nothing) to 1 (the standard deviation is that of ``unguided``); phi in the paper.
    """
    picture = (-3, -2, -1)
    spread = guided.std(picture, keepdim=True).clamp_min(1e-6)
    return guided * (1 - amount + amount * unguided.std(picture, keepdim=True) / spread)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How the prompts and the input picture steer.

    Attributes:
        kind: one of ``GUIDANCE_KINDS``.
        scale: how strongly the prompts steer; 1 is no guidance.
        delta: of the virtual residual noise.
        image_scale: how strongly the input picture steers, with full guidance (``combine_image``).
        rescale: 0 to 1, how much of the unguided contrast is given back (``rescaled``).
    """

    kind: str = "none"
    scale: float = 1.0
    delta: float = 1.0
    image_scale: float = 1.0
    rescale: float = 0.0

    @property
    def is_residual(self) -> bool:
        """Whether a slot carries the ``x0*`` of a virtual negative residual."""
        return self.kind in ("self-negative", "onetime-negative")

    @property
    def by_image(self) -> bool:
        """Whether the model is also asked for its answer without the input picture."""
        return self.kind == "full" and self.image_scale != 1


@dataclass(frozen=True, slots=True)
class DataWeights:
    """Weights with which latent, model output and ``x0*`` make the guided data prediction; (T,) float64 each."""

    latent: torch.Tensor
    output: torch.Tensor
    star: torch.Tensor


def data_weights(table: SolverTable, guidance: Guidance) -> DataWeights:
    """Fold guidance and the solver's boundary condition into one linear combination for each step.

    Full guidance is taken on the outputs before (``combine_full``), so it has no weight here.
    """
    if not guidance.is_residual:
        return DataWeights(
            latent=table.skip + table.keep * table.p,
            output=table.keep * table.q,
            star=torch.zeros_like(table.p),
        )
    scale, blind = guidance.scale, table.alpha == 0
    delta = torch.full_like(table.alpha, guidance.delta).masked_fill(blind, 1.0)
    from_latent = scale * table.p + (1 - scale) * (1 - delta) / table.alpha.masked_fill(blind, 1.0)
    return DataWeights(
        latent=table.skip + table.keep * from_latent,
        output=table.keep * table.q * scale,
        star=table.keep * (delta * (1 - scale)),
    )
