"""Text to image: pictures of words alone, with no input frame (StreamDiffusion, arXiv 2312.12491, section 4).

Every picture starts from noise of its own: that of one seed (*hold*), of ever new seeds (*walk*) or of two seeds in
turn (*swing*), and on the way from one seed to the next, from the arc between their noises. ``SeedPath`` counts the
way, which may also lead from one prompt to another. A UNet of the InstructPix2Pix layout cannot do without an input
picture: it is given ``colours``, which drift in the same way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pipeline.config import StreamConfig
from pipeline.diffusion.noise import blended_noise, seeded_noise, slerp

_SEEDS = 2**31  # one more than the largest seed, after which a walk begins again

# Of the colours that a model is given which cannot do without an input picture: how many lie along the shorter side,
# how sharp their edges are, and what they are (red, green, blue; 0..1).
_CELLS = 4
_SHARPNESS = 14.0
_PALETTE = ((0.93, 0.36, 0.24), (0.97, 0.80, 0.38), (0.24, 0.56, 0.44), (0.20, 0.34, 0.62), (0.91, 0.87, 0.80))
_PALETTE += ((0.45, 0.22, 0.40), (0.10, 0.11, 0.16))


class SeedPath:
    """Where a text-to-image stream is between two seeds: on leg 0, 1, 2, ..., of ``travel_frames`` pictures each.

    The way is a pure function of the settings and of the number of pictures since ``restart``. A change of
    ``travel_frames`` goes on from the share of the leg that is done.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The next picture is the first again."""
        self._leg = self._done = 0
        self._of = 1

    def step(self, config: StreamConfig) -> tuple[int, float]:
        """(leg, share 0..1 of it done) of the next picture; at share 0 it is that of the leg's first seed, exactly."""
        if config.travel_frames != self._of:
            self._done = round(self._done * config.travel_frames / self._of)
            self._of = config.travel_frames
        leg, self._done = divmod(self._done, self._of)
        self._leg += leg
        place = self._leg, self._done / self._of
        self._done += 1
        return place


def starting_noise(config: StreamConfig, leg: int, share: float, shape: tuple[int, ...]) -> torch.Tensor:
    """(1, *shape) float32 of unit variance on the CPU: what the picture at this place of the way starts from."""
    if config.seed_travel == "hold":
        return blended_noise(config.seed, config.seed_b, config.seed_blend, 1, shape)
    if config.seed_travel == "walk":
        first, second = ((config.seed + leg + ahead) % _SEEDS for ahead in (0, 1))
    else:
        first, second = (config.seed, config.seed_b) if leg % 2 == 0 else (config.seed_b, config.seed)
    start = seeded_noise(first, 1, shape)
    return slerp(start, seeded_noise(second, 1, shape), share) if share else start


def prompt_share(leg: int, share: float) -> float:
    """How much of the second prompt: up on even legs, down on odd ones."""
    return share if leg % 2 == 0 else 1 - share


def colours(config: StreamConfig, leg: int, share: float, height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width) in 0..1: patches of colour that drift as the seeds do, with edges for a style to follow."""
    cell = min(height, width) / _CELLS
    shape = len(_PALETTE), max(2, round(height / cell)), max(2, round(width / cell))
    fields = F.interpolate(starting_noise(config, leg, share, shape), (height, width), mode="bicubic")
    # Every colour has a field, and the highest field shows.
    return torch.einsum("nkhw,kc->nchw", (_SHARPNESS * fields).softmax(1), torch.tensor(_PALETTE))
