"""A UNet that computes only what changed: on windows of the latent, with what it knows of the whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pipeline.acceleration.graphs import shared_copy
from pipeline.attention_cache import AttentionCache, uncached_copy
from pipeline.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.sparse.context import Context, Unsupported
from pipeline.sparse.costs import WORTH, Costs
from pipeline.sparse.part_unet import PartUNet
from pipeline.sparse.rectangles import Change, Rectangle, cover, filled, grown, scaled, window

# Pixels of the latent around a changed one that are computed anew, and those that are looked at beyond.
WRITES, HALO = 1, 3
# Sides of windows in pixels of the latent: each shape is a network of its own to a compiler.
SIDES = (16, 24, 32, 40, 48, 64, 80, 96, 128)
# At most so many windows a row, and the share of the whole that a further one must save: the UNet's many small layers
# cost much however small a window is.
MOST, ONE_MORE = 3, 0.2
# While pictures are wholly changed, tick by tick, what parts need to know is recorded at the first tick and at each so
# many: recording costs a fifth of a call.
RECORD_EVERY = 16

# Share of a recording call's time that the call takes without.
WITHOUT_RECORDING = 0.8
# A UNet of more weights than this gets square windows only: each shape is another copy of the weights to a compiler.
LARGE = 300_000_000

# Added to the score of a token that is not to be seen: nothing is left of it, and no number format overflows.
HIDDEN = -1e4

# Runs a whole tick on the UNet as it is.
Whole = Callable[[], torch.Tensor]


class SparseUNet:
    """Keeps each row's last output, and what its norms and self-attentions saw of the whole.

    A row of the stream batch is one slot of it: the same step under the same noise at each tick, so that its input only
    changes where its frame does.

    Attributes:
        costs: of its windows, in pixels of the latent.
        share: of all rows that was computed at the last call, halos included; 1 where it was the whole.
    """

    def __init__(self, model: Model) -> None:
        """Raises:
        Unsupported: the UNet has layers that cannot be run in parts.
        """
        if model.sized:
            raise Unsupported("an SDXL UNet is not run in parts")
        Context(model.unet)
        self._model = model
        self._levels = len(model.unet.config.block_out_channels)
        self._align = 2 ** (self._levels - 1)
        self._square = sum(parameter.numel() for parameter in model.unet.parameters()) > LARGE
        self._modules: dict[bool, PartUNet] = {}
        self.costs = Costs()
        self.share = 1.0
        self.forget()

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._output = torch.empty(0)
        self._known: list[torch.Tensor] = []  # statistics, then keys and values of each self-attention, of all rows
        self._layout: RowLayout = ()
        self._stale = True  # there was a cut since it was recorded
        self._in_a_row = 0  # calls after a cut

    def weights_changed(self) -> None:
        """The UNet's weights or layers are others now."""
        self._modules = {}
        self.costs = Costs()
        self.forget()

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._output.nbytes + sum(tensor.nbytes for tensor in self._known)

    @torch.inference_mode()
    def __call__(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        embeddings: torch.Tensor,
        cache: AttentionCache,
        layout: RowLayout,
        changes: Sequence[Change],
        whole: Whole,
    ) -> torch.Tensor:
        """As ``Backend.denoise``.

        Args:
            changes: for each row where its frame differs from the one that was in this slot before, in pixels of the
                picture.
            whole: the call as the backend does it.
        """
        if self._output.shape[:1] + self._output.shape[2:] != rows.shape[:1] + rows.shape[2:] or layout != self._layout:
            self.forget()
            self._layout = layout
        size = (rows.shape[2], rows.shape[3])
        plans = [self._plan(change if self._known else None, size) for change in changes]
        shapes = [shape for plan in plans for shape in ([size] if plan is None else [_shape(view) for _, view in plan])]
        inputs = [rows, timesteps, embeddings, *cache.laid_out(layout)]
        if not shapes:
            self.share = 0.0
            return self._output
        expected = sum(self.costs.share(shape, size) for shape in shapes)
        cut = any(change is None for change in changes)
        if all(plan is None for plan in plans) or expected > WORTH * len(rows):
            return self._all(inputs, whole, cut)
        if self._stale:
            return self._all(inputs, whole, cut, record=True)
        # What was given before is with others now, and must stay as it is.
        output = self._output.clone()
        for number, plan in enumerate(plans):
            row = [tensor[number : number + 1] for tensor in inputs]
            if plan is None:
                output[number], *known = (found[0] for found in self._recorded(row))
                for kept, new in zip(self._known, known, strict=True):
                    kept[number] = new
            for target, view in plan or ():
                part = self._part(row, number, target, view)
                if part is None:  # nothing of this shape is built yet
                    return self._all(inputs, whole, cut)
                _cut(output[number], target, (0, 0)).copy_(_cut(part[0], target, view[:2]))
        self.share = sum(map(math.prod, shapes)) / (math.prod(size) * len(rows))
        self._in_a_row = 0
        self._output = output
        return output

    def _plan(self, change: Change, size: tuple[int, int]) -> list[tuple[Rectangle, Rectangle]] | None:
        """What to write and what to look at for it, in pixels of the latent; None where the whole is faster."""
        if change is None:
            return None
        height, width = size
        plan = []
        factor = self._model.autoencoder.factor
        for rectangle in cover(filled(change, height * factor, width * factor), MOST, ONE_MORE):
            target = grown(scaled(rectangle, factor), WRITES, width, height)
            looked_at = grown(target, HALO, width, height)
            view = window(looked_at, width, height, self._align, SIDES)
            if self._square:
                longest = max(view[2] - view[0], view[3] - view[1])
                view = window(looked_at, width, height, self._align, [side for side in SIDES if side >= longest])
            plan.append((target, view))
        return plan if self.costs.worth((_shape(view) for _, view in plan), size) else None

    def _all(self, inputs: list[torch.Tensor], whole: Whole, cut: bool, record: bool = False) -> torch.Tensor:
        """A call of all rows as a whole.

        After a ``cut``, a row of which all has changed, what is recorded holds no more; where there is just much to
        compute it does.
        """
        self.share = 1.0
        record = record or not self._known or (cut and self._in_a_row % RECORD_EVERY == 0)
        self._in_a_row = self._in_a_row + 1 if cut else 0
        self._stale = not record and (cut or self._stale)
        if record:
            self._output, *self._known = self._recorded(inputs)
            return self._output
        rows = inputs[0]
        with self.costs.timed((rows.shape[2], rows.shape[3]), len(rows), rows.device):
            self._output = whole()
        return self._output

    def _recorded(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The output for these rows as a whole, and what parts of them need to know."""
        rows = inputs[0]
        started = time.perf_counter()
        found = self._run(True, inputs)
        if found is not None and rows.device.type == "cpu":
            seconds = WITHOUT_RECORDING * (time.perf_counter() - started)
            self.costs.note((rows.shape[2], rows.shape[3]), seconds / len(rows))
        return list(self._module(True)(*inputs)) if found is None else found

    def _part(self, row: list[torch.Tensor], number: int, target: Rectangle, view: Rectangle) -> torch.Tensor | None:
        """(1, C, h, w) the output inside ``view`` of one row, ``target`` of it to be kept; None where not built."""
        size = (row[0].shape[2], row[0].shape[3])
        statistics, *pairs = self._known
        biases: dict[int, torch.Tensor] = {}
        given = [statistics[number : number + 1]]
        for keys, values in zip(pairs[::2], pairs[1::2], strict=True):
            tokens = keys.shape[2]
            if tokens not in biases:
                biases[tokens] = self._bias(self._level(tokens, size), target, view, size)
            given += [keys[number : number + 1], values[number : number + 1], biases[tokens]]
        inputs = [_cut(row[0], view, (0, 0)), *row[1:], *given]
        started = time.perf_counter()
        found = self._run(False, inputs)
        if found is None:
            return None
        if row[0].device.type == "cpu":
            self.costs.note(_shape(view), time.perf_counter() - started)
        output, *new = found
        for kept, part in zip(pairs, new, strict=True):
            level = self._level(kept.shape[2], size)
            grid, small = _halved(size, level), _halved(_shape(view), level)
            inner = scaled(target, 2**level)
            whole = kept[number].unflatten(1, grid).permute(0, 3, 1, 2)
            piece = part[0].unflatten(1, small).permute(0, 3, 1, 2)
            _cut(whole, inner, (0, 0)).copy_(_cut(piece, inner, (view[0] >> level, view[1] >> level)))
        return output

    def _run(self, whole: bool, inputs: list[torch.Tensor]) -> list[torch.Tensor] | None:
        """What the network gives for these inputs; None where the backend has none for their shapes yet."""
        backend = self._model.backend
        if backend.name == "eager":
            return list(self._module(whole)(*inputs))
        return backend.network("unet-whole" if whole else "unet-part", partial(self._copy, whole), inputs)

    def _module(self, whole: bool) -> PartUNet:
        """On the model's own weights."""
        if whole not in self._modules:
            self._modules[whole] = PartUNet(shared_copy(self._model.unet), whole)
        return self._modules[whole]

    def _copy(self, whole: bool) -> PartUNet:
        """For a compiler."""
        return PartUNet(uncached_copy(self._model.unet).float(), whole)

    def _level(self, tokens: int, size: tuple[int, int]) -> int:
        """How often the latent has been halved where a self-attention sees so many tokens."""
        return next(level for level in range(self._levels) if math.prod(_halved(size, level)) == tokens)

    def _bias(self, level: int, target: Rectangle, view: Rectangle, size: tuple[int, int]) -> torch.Tensor:
        """(1, 1, 1, L + l) to add to scores: inside ``target`` the part's tokens are seen, elsewhere the whole's."""
        inner = scaled(target, 2**level)
        whole = torch.zeros(1, 1, *_halved(size, level))
        part = torch.full((1, 1, *_halved(_shape(view), level)), HIDDEN)
        _cut(whole, inner, (0, 0)).fill_(HIDDEN)
        _cut(part, inner, (view[0] >> level, view[1] >> level)).zero_()
        return torch.cat([whole.flatten(), part.flatten()]).view(1, 1, 1, -1).to(self._model.device)


def _shape(view: Rectangle) -> tuple[int, int]:
    return view[3] - view[1], view[2] - view[0]


def _halved(size: tuple[int, int], level: int) -> tuple[int, int]:
    """(height, width) after ``level`` convolutions of stride 2."""
    return -(-size[0] // 2**level), -(-size[1] // 2**level)


def _cut(maps: torch.Tensor, rectangle: Rectangle, origin: tuple[int, int]) -> torch.Tensor:
    """The view of ``maps`` (..., H, W) inside ``rectangle``, where ``maps`` begins at ``origin`` (left, top)."""
    left, top, right, bottom = rectangle
    return maps[..., top - origin[1] : bottom - origin[1], left - origin[0] : right - origin[0]]
