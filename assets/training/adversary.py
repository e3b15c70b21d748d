"""An adversarial loss on latents: regression alone answers a hard line or a tile's edge with its blurred mean.

The critic sees pieces of latents beside the photo's (pix2pix, arXiv 1611.07004), judges patches of about ten cells,
and knows the style by projection (arXiv 1802.05637). Hinge loss, spectral norm (arXiv 1802.05957), and the distance of
its own features as a second term of the generator's (arXiv 1711.11585).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu
from torch.nn.utils.parametrizations import spectral_norm

from assets.training.autoencoder import LATENT_CHANNELS
from assets.training.prompts import STYLE_IDS, TINT_IDS
from assets.training.store import place

CRITIC_RATE = 4e-4
FEATURE_WEIGHT = 2.0


class Critic(nn.Module):
    """(B, 16, h, w) latents, the photo's, style amounts and wishes -> (B, 1, h/4, w/4) scores, and features."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        shapes = [(2 * LATENT_CHANNELS + 1, width, 3, 1), (width, width, 3, 1), (width, 2 * width, 4, 2)]
        shapes += [(2 * width, 2 * width, 3, 1), (2 * width, 3 * width, 4, 2)]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(take, give, kernel, stride, padding=1)) for take, give, kernel, stride in shapes
        )
        self.score = spectral_norm(nn.Conv2d(3 * width, 1, 3, padding=1))
        self.wish = spectral_norm(nn.Embedding(len(STYLE_IDS) * len(TINT_IDS), 3 * width))

    def forward(self, latents: Tensor, photo: Tensor, amount: Tensor, wishes: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`amount` (B,) in 0..1, `wishes` (B,) int64: style x tints + tint."""
        how_much = amount.to(photo)[:, None, None, None].expand_as(photo[:, :1])
        x = torch.cat([latents, photo, how_much], 1).contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
            features.append(x)
        projected = (x * self.wish(wishes)[:, :, None, None]).sum(1, keepdim=True)
        return self.score(x) + projected, features


class Adversary:
    """The critic, its optimiser, and the two losses."""

    def __init__(self, where: torch.device) -> None:
        self.where = where
        self.critic = Critic()
        place(self.critic, where)
        self.optimizer = torch.optim.AdamW(self.critic.parameters(), lr=CRITIC_RATE, betas=(0.5, 0.9), weight_decay=0)

    def learn(self, made: Tensor, wanted: Tensor, photo: Tensor, amount: Tensor, wishes: Tensor) -> float:
        """One step of the critic: `wanted` above 1, `made` below -1 (hinge). Returns its loss; 2 is a blind guess."""
        both = torch.cat([wanted, made.detach()])
        twice = (photo.repeat(2, 1, 1, 1), amount.repeat(2), wishes.repeat(2))
        with torch.autocast(self.where.type, torch.bfloat16):
            scores, _ = self.critic(both, *twice)
        real, fake = scores.float().chunk(2)
        loss = relu(1 - real).mean() + relu(1 + fake).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def loss(self, made: Tensor, wanted: Tensor, photo: Tensor, amount: Tensor, wishes: Tensor) -> Tensor:
        """What the UNet shall lower: the critic's doubt, and the distance of its features to those of `wanted`."""
        self.critic.requires_grad_(False)
        with torch.autocast(self.where.type, torch.bfloat16):
            score, ours = self.critic(made, photo, amount, wishes)
            with torch.no_grad():
                _, theirs = self.critic(wanted, photo, amount, wishes)
        self.critic.requires_grad_(True)
        apart = [(a.float() - b.float()).abs().mean() for a, b in zip(ours, theirs, strict=True)]
        return -score.float().mean() + FEATURE_WEIGHT * torch.stack(apart).mean()
