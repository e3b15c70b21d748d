"""Muon (arXiv 2502.16982) for the matrices of a network, AdamW for all else, as one optimiser.

A convolution's weight counts as the matrix (out, in x kernel). Measured on the UNet: see the model card.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon

OUTSIDE = ("conv_in.", "conv_out.")  # first and last layers are AdamW's, as Muon's authors advise


def _as_matrix(weight: Tensor) -> Tensor:
    """A view of a linear or convolution weight, (out, rest)."""
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)  # channels last
    return weight.view(len(weight), -1)


class MatrixOptimizer:
    """Steps `module`; Muon's updates are scaled to AdamW's usual size, so one learning rate serves both."""

    def __init__(self, module: nn.Module, rate: float, betas: tuple[float, float], weight_decay: float) -> None:
        self.weights = [
            weight for name, weight in module.named_parameters() if weight.ndim >= 2 and not name.startswith(OUTSIDE)
        ]
        chosen = {id(weight) for weight in self.weights}
        others = [weight for weight in module.parameters() if id(weight) not in chosen]
        # Muon takes matrices only: these share the weights' memory.
        self.matrices = [nn.Parameter(_as_matrix(weight.detach())) for weight in self.weights]
        self.muon = Muon(self.matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adam = AdamW(others, lr=rate, betas=betas, weight_decay=weight_decay, fused=True)

    def set_rate(self, rate: float) -> None:
        """Give all parameters this learning rate."""
        for group in (*self.muon.param_groups, *self.adam.param_groups):
            group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.adam.zero_grad(set_to_none=True)
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            weight.grad = matrix.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move the weights along their gradients."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            if weight.grad is not None:
                like_weight = torch.empty_like(weight).copy_(weight.grad)
                matrix.grad = _as_matrix(like_weight)
        self.muon.step()
        self.adam.step()

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; a ValueError if another kind of optimiser did."""
        if not {"muon", "adam"} <= state_dict.keys():
            raise ValueError(
                "this checkpoint was written with another optimiser: delete it, or train it on with the version of then"
            )
        self.muon.load_state_dict(state_dict["muon"])
        self.adam.load_state_dict(state_dict["adam"])
