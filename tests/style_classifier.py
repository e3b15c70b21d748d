"""Two judges of the embedded model's styles, learnt from the teachers' pictures.

The first tells styles apart by statistics of the features that the training's perceptual loss uses too. The second is
there to keep that honest: it sees colours, contrasts and edges alone, and shares nothing with the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from assets.training.perceptual import TinyDarknet

STEPS = 300


@torch.no_grad()
def describe(judge: TinyDarknet, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..1 -> (B, F): mean and deviation of the judge's features and of the colours."""
    rows = []
    for part in pictures.split(8):
        with torch.autocast("cpu", torch.bfloat16):
            seen = [*judge(part), part]
        columns = [torch.cat([f.float().mean((2, 3)), f.float().std((2, 3))], 1) for f in seen]
        rows.append(torch.cat(columns, 1))
    return torch.cat(rows)


LEVELS = 5  # of a Laplacian pyramid
BINS = 12
YUV = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]])


def describe_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) in 0..1 -> (B, F): histograms of colours and edges, and the contrasts at several scales."""
    return torch.cat([_pixels(part) for part in pictures.split(16)])


def _pixels(pictures: Tensor) -> Tensor:
    x = torch.einsum("ij,bjhw->bihw", YUV, pictures)
    columns = [x.mean((2, 3)), x.std((2, 3)), _histogram(x[:, :1], 0, 1)]
    columns += [_histogram(x[:, i : i + 1], -0.3, 0.3) for i in (1, 2)]
    right, down = x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]
    edges = (right.square() + down.square()).sqrt()
    columns.append(_histogram((edges + 1e-3).log10(), -3, 0))
    # The corners of four by four, eight by eight pixels: a pixel drawing's edges lie at the same places of a grid.
    for side in (4, 8):
        whole = (
            edges[:, 0, : 240 // side * side, : 240 // side * side].unflatten(1, (-1, side)).unflatten(3, (-1, side))
        )
        places = whole.mean((1, 3)).flatten(1)
        columns.append(places.amax(1, keepdim=True) / places.mean(1, keepdim=True).clamp_min(1e-4))
    for _ in range(LEVELS):
        small = F.avg_pool2d(x, 2)
        band = x - F.interpolate(small, size=x.shape[-2:], mode="bilinear")
        size = band.abs().mean((2, 3)).clamp_min(1e-4)
        tails = band.square().mean((2, 3)).sqrt() / size
        skew = (band / size[..., None, None]).clamp(-8, 8).pow(3).mean((2, 3))
        columns += [size.log(), tails, skew]
        x = small
    return torch.cat(columns, 1)


def _histogram(values: Tensor, low: float, high: float) -> Tensor:
    """(B, C, h, w) -> (B, C * BINS): the shares of every fourth value in bins, each value spread over two."""
    values = values[..., ::2, ::2]
    place = ((values - low) / (high - low)).clamp(0, 1).flatten(2)[..., None] * (BINS - 1)
    return (1 - (place - torch.arange(BINS)).abs()).clamp_min(0).mean(2).flatten(1)


class StyleClassifier:
    """Names a picture's style: logistic regression on what a function tells of it.

    Give it each picture as drawn and some once through the autoencoder, whose blur would pass for brushwork otherwise.
    """

    def __init__(self, describe: Callable[[Tensor], Tensor], drawn: Sequence[Tensor]) -> None:
        """`describe` is (B, 3, H, W) in 0..1 -> (B, F); `drawn[i]` are pictures of class i."""
        self.describe = describe
        features = torch.cat([describe(pictures) for pictures in drawn])
        wanted = torch.cat([torch.full((len(pictures),), index) for index, pictures in enumerate(drawn)])
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-6
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(features.shape[1], len(drawn))
        optimizer = torch.optim.AdamW(self.layer.parameters(), lr=0.02, weight_decay=0.05)
        ready = (features - self.mean) / self.deviation
        for _ in range(STEPS):
            noisy = ready + 0.5 * torch.randn_like(ready)
            loss = F.cross_entropy(self.layer(noisy), wanted, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1 -> (B,) class indices."""
        return self.layer((self.describe(pictures) - self.mean) / self.deviation).argmax(1)
