"""A network of one layer, to try backends on."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.residency import DENOISER


class Small(nn.Module):
    """Adds what it is told to a linear map of rows."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": torch.nn.functional.silu(rows @ self.weight) + others["shift"]}


class SmallNetwork:
    """Of one part of a model, whose weights are changed in place."""

    name, part, open_sizes, window = "small", DENOISER, False, False

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.eye(4), requires_grad=False)

    def module(self) -> nn.Module:
        return Small(self.weight)


class BranchingNetwork(SmallNetwork):
    """One that cannot be a single graph: what it does depends on what it reads."""

    name = "branching"

    def module(self) -> nn.Module:
        return _Branching(self.weight)


class _Branching(Small):
    def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(rows if rows.sum() > 0 else -rows, **others)
