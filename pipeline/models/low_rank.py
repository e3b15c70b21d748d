"""Updates of single weights, in factors: LoRA, LoHa, LoKr, DoRA, and plain differences.

A low-rank update is a product of two narrow matrices (arXiv 2106.09685). LyCORIS's Hadamard (LoHa) and Kronecker (LoKr)
products (arXiv 2309.14859) reach more with as few numbers, and a weight-decomposed update (DoRA, arXiv 2402.09353) sets
the lengths of what makes one output each besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

Factors = Mapping[str, torch.Tensor]

# What an update is made of: the roles that it needs, and those that it may have besides.
_MAGNITUDES = frozenset({"dora_scale", "magnitude"})
_MADE_OF: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(needed.split()), frozenset(further.split()))
    for needed, further in (
        ("diff", ""),
        ("down up", "mid"),
        ("hada_w1_a hada_w1_b hada_w2_a hada_w2_b", "hada_t1 hada_t2"),
        ("lokr_w1 lokr_w2", ""),
        ("lokr_w1 lokr_w2_a lokr_w2_b", "lokr_t2"),
        ("lokr_w1_a lokr_w1_b lokr_w2", "lokr_t1"),
        ("lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b", "lokr_t1 lokr_t2"),
    )
)
# Roles that give the inner size of a product.
_INNER = ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """The update of one parameter, still in factors.

    Attributes:
        factors: by role: ``down``, ``up`` and ``mid``, or those of LyCORIS, or ``diff``, the update itself; and
            ``dora_scale`` or ``magnitude`` of a DoRA.
        scale: what the product is multiplied with: alpha over rank.
    """

    factors: Factors
    scale: float

    def delta(self, base: torch.Tensor) -> torch.Tensor:
        """What is added to the model's own parameter ``base`` at strength 1: float32, of its shape, on its device.

        Raises:
            ValueError: it was made for a parameter of another shape.
        """
        factors = {role: tensor.to(base.device, torch.float32) for role, tensor in self.factors.items()}
        try:
            change = _product(factors) * self.scale
            if change.shape[:1] != base.shape[:1]:
                raise ValueError("it has another number of outputs")
            change = change.reshape(base.shape)
            if "magnitude" in factors:
                return _decomposed(base.float(), change, factors["magnitude"], by_output=True)
            if "dora_scale" in factors:
                by_output = factors["dora_scale"].shape[:1] == base.shape[:1]
                return _decomposed(base.float(), change, factors["dora_scale"], by_output)
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"it does not fit a parameter of shape {tuple(base.shape)}") from error
        return change


def usable_roles(roles: frozenset[str]) -> frozenset[str] | None:
    """Those of the factors of one layer that make up its update; None where some are missing."""
    for needed, further in _MADE_OF:
        if needed <= roles:
            return roles & (needed | further | _MAGNITUDES)
    return None


def are_sound(factors: Factors) -> bool:
    """Whether all of them are numbers with a fraction, and all that are multiplied are matrices or more."""
    plain = _MAGNITUDES | {"diff"}
    return all(
        factor.is_floating_point() and factor.numel() > 0 and (role in plain or factor.ndim >= 2)
        for role, factor in factors.items()
    )


def rank_of(factors: Factors) -> int:
    """The inner size of the product; 0 where there is none."""
    return next((factors[role].shape[0] for role in _INNER if role in factors), 0)


def _decomposed(base: torch.Tensor, change: torch.Tensor, magnitude: torch.Tensor, by_output: bool) -> torch.Tensor:
    """DoRA (arXiv 2402.09353, eq. 5): the sum gives the direction of a weight, ``magnitude`` its length; less ``base``.

    Lengths are of what makes one output each, as PEFT has it; those of LyCORIS may be of one input each.
    """
    kept = 0 if by_output else 1
    others = [dim for dim in range(base.ndim) if dim != kept]
    direction = base + change
    lengths = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
    return magnitude.reshape(lengths.shape) * direction / lengths.clamp_min(1e-12) - base


def _product(factors: Factors) -> torch.Tensor:
    if "diff" in factors:
        return factors["diff"]
    if "mid" in factors:  # a convolution as three (LoCon)
        up, down = factors["up"].flatten(1), factors["down"].flatten(1)
        return torch.einsum("ir,rs...,sj->ij...", up, factors["mid"], down)
    if "down" in factors:
        return factors["up"].flatten(1) @ factors["down"].flatten(1)
    if "hada_w1_a" in factors:
        return _factor(factors, "hada_w1", "hada_t1") * _factor(factors, "hada_w2", "hada_t2")
    first, second = _factor(factors, "lokr_w1", "lokr_t1"), _factor(factors, "lokr_w2", "lokr_t2")
    for _ in range(second.ndim - first.ndim):
        first = first.unsqueeze(-1)
    return torch.kron(first, second)


def _factor(factors: Factors, name: str, core: str) -> torch.Tensor:
    if name in factors:
        return factors[name]
    left, right = factors[f"{name}_a"], factors[f"{name}_b"]
    if core in factors:
        return torch.einsum("rs...,ri,sj->ij...", factors[core], left, right)
    return left @ right.flatten(1) if right.ndim == 2 else torch.einsum("ir,r...->i...", left, right)
