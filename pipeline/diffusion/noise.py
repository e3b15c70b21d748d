"""Seeded noise, and the way from one seed's to another's."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def seeded_noise(seed: int, count: int, shape: Sequence[int]) -> torch.Tensor:
    """(count, *shape) float32 of unit variance on the CPU: the same on every machine, and for every ``count``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(tuple(shape), generator=generator) for _ in range(count)])


def blended_noise(seed: int, seed_b: int, blend: float, count: int, shape: Sequence[int]) -> torch.Tensor:
    """The noise of ``seed`` at blend 0, of ``seed_b`` at 1, and on the arc between them in between."""
    if blend == 0 or seed == seed_b:
        return seeded_noise(seed, count, shape)
    if blend == 1:
        return seeded_noise(seed_b, count, shape)
    return slerp(seeded_noise(seed, count, shape), seeded_noise(seed_b, count, shape), blend)


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """Spherical interpolation of ``start`` and ``end`` ((count, ...) each, every item on its own) at ``share`` 0..1.

    A straight line between two noises passes through values of too small a variance, of which a diffusion model makes
    grey pictures; the arc keeps it (Shoemake 1985, "Animating rotation with quaternion curves", section 3.3).
    """
    flat_start, flat_end = start.flatten(1).double(), end.flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(flat_start, flat_end, dim=1).clamp(-1, 1)
    angle = cosine.acos()
    sine = angle.sin()
    # Noises that (nearly) coincide have no arc; the line is the same there.
    straight = sine < 1e-6
    safe = torch.where(straight, 1.0, sine)
    from_start = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / safe)
    from_end = torch.where(straight, share, (share * angle).sin() / safe)
    blended = from_start[:, None] * flat_start + from_end[:, None] * flat_end
    return blended.view_as(start).to(start.dtype)
