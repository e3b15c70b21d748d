"""The UNet as two networks of its own: one records what windows have to know of the whole, one is run on windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.models.modules import UNet
from pipeline.models.networks import ConditionedUNet
from pipeline.sparse.context_hooks import ContextHooks

# What is recorded of the whole, and given to windows: the norms' affine, and for each self-attention by its number keys
# and values of the whole's tokens and which of the tokens are seen.
_AFFINE, _KEYS, _VALUES, _BIAS = "affine", "whole_keys", "whole_values", "seen"


class RecordingUNet(ConditionedUNet):
    """Is called on whole pictures, and records. It takes ``unet`` over for good."""

    def __init__(self, unet: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__(unet, dtype)
        self._hooks = ContextHooks(unet)
        self._hooks.inject()

    def forward(
        self, rows: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor, **conditions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """As the denoiser; besides the ``output`` (B, C, h, w), what ``ContextHooks.recorded`` gives, by name."""
        self._hooks.begin(None)
        output = self.call_unet(rows, timesteps, tokens, conditions)
        affine, *pairs = self._hooks.recorded()
        return {"output": output, _AFFINE: affine, **_named(pairs, (_KEYS, _VALUES))}


class WindowUNet(ConditionedUNet):
    """Is called on windows. It takes ``unet`` over for good.

    What timestep and embeddings do is in the scale and shift of norms that it is given.
    """

    def __init__(self, unet: UNet, dtype: torch.dtype) -> None:
        super().__init__(unet, dtype)
        self._hooks = ContextHooks(unet)
        self._hooks.inject()
        width = unet.config["cross_attention_dim"]
        self._width = int(width if isinstance(width, int) else width[0])

    @staticmethod
    def takes(condition: str) -> bool:
        """Whether a window is told this condition: only what happens inside of cross-attentions."""
        return condition.startswith("cross_")

    def forward(self, rows: torch.Tensor, **others: torch.Tensor) -> dict[str, torch.Tensor]:
        """Args:
            rows: (B, C, h, w) the windows.
            others: the conditions that it ``takes``, and ``context_by_name``.

        Returns:
            The ``output`` (B, C, h, w), and the keys and values of each self-attention.
        """
        context = [others.pop(_AFFINE)]
        for number in range(self._hooks.attentions):
            context += [others.pop(f"{name}_{number}") for name in (_KEYS, _VALUES, _BIAS)]
        self._hooks.begin(context)
        # The UNet asks for these two, but the result does not depend on them: the time projections are not called.
        timesteps = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        tokens = torch.zeros(len(rows), 1, self._width, device=rows.device)
        output = self.call_unet(rows, timesteps, tokens, others)
        return {"output": output, **_named(self._hooks.recorded(), (_KEYS, _VALUES))}


def context_by_name(given: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """``ContextHooks.given`` as inputs of ``WindowUNet``."""
    affine, *others = given
    return {_AFFINE: affine, **_named(others, (_KEYS, _VALUES, _BIAS))}


def _named(tensors: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Of each self-attention in turn, as many tensors as there are names."""
    return {f"{names[place % len(names)]}_{place // len(names)}": tensor for place, tensor in enumerate(tensors)}
