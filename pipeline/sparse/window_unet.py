"""The UNet as two networks of its own: one records what windows have to know of the whole, one is run on windows."""

from __future__ import annotations

import torch

from pipeline.models.modules import UNet
from pipeline.models.networks import ConditionedUNet
from pipeline.sparse.context_hooks import ContextHooks

# What the UNet itself gives, beside what is recorded.
OUTPUT = "output"


class RecordingUNet(ConditionedUNet):
    """Is called on whole pictures, and records what windows need to know, ``surrounded`` or not (``ContextHooks``).

    It takes ``unet`` over for good.
    """

    def __init__(self, unet: torch.nn.Module, dtype: torch.dtype, *, surrounded: bool) -> None:
        super().__init__(unet, dtype)
        self._hooks = ContextHooks(unet)
        self._hooks.inject(windows=False, surrounded=surrounded)

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, **conditions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As the denoiser; besides the ``output`` (B, C, h, w), what ``ContextHooks`` records of the whole."""
        self._hooks.begin({})
        output = self.call_unet(rows, timesteps, tokens, conditions)
        return {OUTPUT: output, **self._hooks.recorded()}


class WindowUNet(ConditionedUNet):
    """Is called on windows, ``surrounded`` or not (``ContextHooks``). It takes ``unet`` over for good.

    What timestep and embeddings do is in the scale and shift of norms that it is given.
    """

    def __init__(self, unet: UNet, dtype: torch.dtype, *, surrounded: bool) -> None:
        super().__init__(unet, dtype)
        self._hooks = ContextHooks(unet)
        self._hooks.inject(windows=True, surrounded=surrounded)
        width = unet.config["cross_attention_dim"]
        self._width = int(width if isinstance(width, int) else width[0])

    @staticmethod
    def takes(condition: str) -> bool:
        """Whether a window is told this condition: only what happens inside of cross-attentions."""
        return condition.startswith("cross_")

    def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        """Args:
            rows: (B, C, h, w) the windows.
            others: the conditions that it ``takes``, and what ``ContextHooks`` gives to windows.

        Returns:
            The ``output`` (B, C, h, w), and what ``ContextHooks`` records of windows.
        """
        self._hooks.begin(others)
        # The UNet asks for these two, but the result does not depend on them: the time projections are not called.
        timesteps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        tokens = torch.zeros(len(rows), 1, self._width, device=rows.device)
        conditions = {name: tensor for name, tensor in others.items() if self.takes(name)}
        output = self.call_unet(rows, timesteps, tokens, conditions)
        return {OUTPUT: output, **self._hooks.recorded()}
