"""The judge of the embedded model's styles: told apart by feature statistics, learnt from the teachers' pictures."""

from __future__ import annotations

from collections.abc import Sequence

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


class StyleClassifier:
    """Names a picture's style: logistic regression on `describe`.

    Give it each picture as drawn and some once through the autoencoder, whose blur would pass for brushwork otherwise.
    """

    def __init__(self, judge: TinyDarknet, drawn: Sequence[Tensor]) -> None:
        """`drawn[i]` are pictures of class i, (B, 3, H, W) in 0..1."""
        self.judge = judge
        features = torch.cat([describe(judge, pictures) for pictures in drawn])
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
        return self.layer((describe(self.judge, pictures) - self.mean) / self.deviation).argmax(1)
