"""A UNet that computes only what changed: on windows of the latent, with what it knows of the whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from pipeline.arriving import Arriving
from pipeline.backends.backend import Tensors
from pipeline.conditioning.conditions import Signature, signature_of
from pipeline.sparse.buffer_pool import BufferAgePool
from pipeline.sparse.context_hooks import ContextHooks, Unsupported
from pipeline.sparse.costs import Costs
from pipeline.sparse.global_context import GlobalContext
from pipeline.sparse.networks import SparseNetworks
from pipeline.sparse.recording import Recording
from pipeline.sparse.rectangles import (
    Change,
    Rectangle,
    Shape,
    Size,
    Window,
    cover,
    cut,
    filled,
    grown,
    scaled,
    size_of,
    window_around,
    window_of_size,
)
from pipeline.sparse.trial import Trial, error_of
from pipeline.sparse.window_batch import WindowBatch, grouped
from pipeline.sparse.window_shapes import WindowShapes
from pipeline.sparse.window_unet import OUTPUT

# Pixels of the latent around a changed one that are computed anew, and the halo that is at least looked at around
# those; mostly more is, as windows have few shapes. Between zeros, ...
ZEROS_MARGIN, ZEROS_HALO = 1, 1
# ... and surrounded. There every pixel is right, and the error is of what the change does beyond the window.
SURROUNDED_MARGIN, SURROUNDED_HALO = 3, 0
# Between zeros a wider halo brings 5 to 9 dB inside the change. It is taken where it costs no more than so many times
# as much: not around scattered changes, whose windows are mostly halo.
WIDE_HALO, CHEAP = 4, 1.5
# Lengths of a window's sides in pixels of the latent: each shape is a network of its own to a compiler, and all of a
# shorter window would be near its border.
LATENT_SIDES = (16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112, 128)
# At most so many windows a row, and the share of the picture that one more must save. That is little, as windows share
# a call where it is faster.
MAX_WINDOWS, WINDOW_OVERHEAD = 12, 0.02
# What a call costs beside its area, as a share of the whole: the UNet has many small layers.
UNET_OVERHEAD = 0.1
# How many shapes of windows have a network, which takes some 100 MB each; and how many of a large UNet.
MAX_SHAPES, MAX_SHAPES_OF_LARGE = 8, 2
# After the first few shapes, the next one is chosen each time that so many windows were wanted.
UNET_ONE_IN = 16
# So many windows of a single row go into one call where networks are built for a number of them.
SEVERAL = 4
# For so many groups of rows the conditions are kept laid out.
MOST_CONDITIONS = 16
# Share of a recording call's time that the call would take without recording.
WITHOUT_RECORDING = 0.75


@dataclass(frozen=True)
class _Inputs:
    """Of a call: rows (B, C, h, w), timesteps (B,), and the conditions of all rows by name."""

    rows: torch.Tensor
    timesteps: torch.Tensor
    conditions: Tensors

    @property
    def size(self) -> Size:
        """(height, width) of the latents."""
        return self.rows.shape[2], self.rows.shape[3]

    def row(self, number: int) -> _Inputs:
        """Of one row, as a batch of one."""
        only = slice(number, number + 1)
        conditions = {name: tensor[only] for name, tensor in self.conditions.items()}
        return _Inputs(self.rows[only], self.timesteps[only], conditions)


@dataclass
class _Kept:
    """What is kept from call to call, for rows of one number and size, under conditions of one signature.

    Attributes:
        kind: that number and size, and the signature.
        output: of the last call.
        context: what was recorded of the whole; None before.
        recording: whether that still holds.
        conditions: of all rows at the last call.
    """

    kind: tuple[tuple[int, ...], Signature] = ((), ())
    output: BufferAgePool = field(default_factory=BufferAgePool)
    context: GlobalContext | None = None
    recording: Recording = field(default_factory=Recording)
    conditions: Tensors = field(default_factory=dict)
    _conditions_of: dict[tuple[int, ...], Tensors] = field(default_factory=dict)

    def follow(self, conditions: Tensors) -> None:
        """Take over the conditions where they are others than before."""
        if conditions is not self.conditions:
            self.conditions, self._conditions_of = conditions, {}

    def conditions_of(self, rows: tuple[int, ...]) -> Tensors:
        """Those of these rows: the very same tensors for as long as they do not change."""
        if rows == tuple(range(self.kind[0][0])):
            return self.conditions
        if rows not in self._conditions_of:
            if len(self._conditions_of) >= MOST_CONDITIONS:
                self._conditions_of = {}
            self._conditions_of[rows] = {name: tensor[list(rows)] for name, tensor in self.conditions.items()}
        return self._conditions_of[rows]


class SparseUNet:
    """Keeps each row's last output, and what its norms and self-attentions saw of the whole.

    A row of the stream batch is one slot of it: the same step under the same noise at each tick, so that its input only
    changes where its frame does.

    Attributes:
        costs: of its windows, in pixels of the latent.
        share: of all rows that was computed at the last call, halos included; 1 where it was the whole.
        any_whole: whether a row was computed as a whole at the last call. Its output is then another everywhere, and
            not only where its frame changed: what windows are told of the whole is a little out of date.
    """

    def __init__(self, networks: SparseNetworks) -> None:
        """Raises:
        Unsupported: the UNet has layers that cannot be run on windows.
        """
        model = networks.model
        if model.sized:
            raise Unsupported("an SDXL UNet is not run in parts")
        ContextHooks(model.unet)
        self._networks = networks
        self._factor = model.autoencoder.factor
        # Windows begin where all strides meet.
        self._align = 2 ** (len(model.unet.config["block_out_channels"]) - 1)
        self._shapes, self._shapes_of = self._no_shapes(), _Kept().kind
        self._kept = _Kept()
        self._trial = Trial()
        self._errors: deque[tuple[bool, Arriving]] = deque()  # whether its windows were surrounded, and of each trial
        self.costs = Costs(UNET_OVERHEAD, networks.stopwatch)
        self.share = 1.0
        self.any_whole = True

    @property
    def margin(self) -> int:
        """Pixels of the latent around a changed one that may be other than before."""
        return SURROUNDED_MARGIN if self._trial.surrounds else ZEROS_MARGIN

    @property
    def _halo(self) -> int:
        return SURROUNDED_HALO if self._trial.surrounds else ZEROS_HALO

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._kept = _Kept()

    def weights_changed(self) -> None:
        """The UNet's weights or layers are others now."""
        self._errors.clear()
        if not self._trial.surrounds:
            self._trial = Trial()
        self._shapes_of = _Kept().kind
        self.costs = Costs(UNET_OVERHEAD, self._networks.stopwatch)
        self.forget()

    def _no_shapes(self) -> WindowShapes:
        if self._networks.any_shape:
            return WindowShapes(None)
        return WindowShapes(MAX_SHAPES_OF_LARGE if self._networks.large else MAX_SHAPES, UNET_ONE_IN)

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._kept.output.memory + (0 if self._kept.context is None else self._kept.context.memory)

    @torch.inference_mode()
    def __call__(
        self,
        rows: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Tensors,
        changes: Sequence[Change],
    ) -> torch.Tensor:
        """The denoiser's output (B, C, h, w) for these rows.

        Args:
            rows, timesteps, conditions: see ``pipeline.denoiser``.
            changes: for each row where its frame differs from the one that was in this slot before, in pixels of the
                picture.
        """
        self._learn()
        self._follow((len(rows), *rows.shape[2:]), signature_of(conditions))
        kept, size = self._kept, (rows.shape[2], rows.shape[3])
        plans = [self._plan(None if kept.context is None else change, size) for change in changes]
        if not any(plan is None or plan for plan in plans):
            self.share, self.any_whole = 0.0, False
            assert kept.output.newest is not None, "there is an output where there is a context"
            return kept.output.newest
        inputs = _Inputs(rows, timesteps, conditions)
        cut_off = any(change is None for change in changes)
        whole_rows = [number for number, plan in enumerate(plans) if plan is None]
        if kept.context is None or len(whole_rows) == len(rows):
            return self._all(inputs, cut_off)
        batches = self._batches(kept.context, inputs, plans)
        if batches is None:
            return self._all(inputs, cut_off)
        calls = [batch.shape for batch in batches] + [size] * len(whole_rows)
        if not self.costs.worth(calls, size, len(rows)):
            return self._all(inputs, cut_off)
        if kept.recording.stale:
            return self._all(inputs, cut_off, wanted=True)
        if not self._changed(kept.context, inputs, batches, whole_rows):
            return self._all(inputs, cut_off)
        kept.recording = kept.recording.after_windows()
        assert kept.output.newest is not None
        if self._trial.over or not batches:
            return kept.output.newest
        return self._tried(inputs, kept.output.newest, batches)

    def _tried(self, inputs: _Inputs, found: torch.Tensor, batches: Sequence[WindowBatch]) -> torch.Tensor:
        """The output as a whole, by which it is seen how right the windows are that have just been computed."""
        self.share, self.any_whole = 1.0, True
        whole = self._networks.denoise({"rows": inputs.rows, "timesteps": inputs.timesteps}, inputs.conditions)
        windows = [one for batch in batches for one in batch.of_rows()]
        self._errors.append((self._trial.surrounds, Arriving(error_of(found, whole, windows))))
        self._learn()
        return self._kept.output.replace(whole)

    def _learn(self) -> None:
        """Take account of the errors that have arrived; until then the changes that come are tried, too."""
        while self._errors and self._errors[0][1].there:
            surrounded, error = self._errors.popleft()
            if surrounded == self._trial.surrounds:  # else it is of windows as they are no longer
                self._trial = self._trial.after(error.value)
                if self._trial.surrounds != surrounded:
                    self._networks.surround(self._trial.surrounds)
                    self._shapes = self._no_shapes()
                    self.costs = Costs(UNET_OVERHEAD, self._networks.stopwatch)
                    self.forget()

    def _follow(self, shape: tuple[int, ...], signature: Signature) -> None:
        """Begin anew where the rows have another number or size, or other conditions, than those before."""
        kind = shape, signature
        if kind != self._kept.kind:
            self._kept = _Kept(kind)
            if kind != self._shapes_of:
                self._shapes_of, self._shapes = kind, self._no_shapes()

    # -- which windows ------------------------------------------------------------------------------------------------

    def _plan(self, change: Change, size: Size) -> list[Window] | None:
        """The windows for a row's change; None where the whole is faster."""
        if change is None:
            return None
        height, width = size
        blocks = filled(change, height * self._factor, width * self._factor)
        covers = [cover(blocks, most, WINDOW_OVERHEAD) for most in (1, MAX_WINDOWS)]
        cost, plan, calls = self._cheapest(covers, self._halo, size)
        if not self._trial.surrounds:
            wider = self._cheapest(covers, WIDE_HALO, size)
            if wider[0] <= CHEAP * cost:
                _, plan, calls = wider
        return plan if self.costs.worth(calls, size) else None

    def _cheapest(
        self, covers: Sequence[Sequence[Rectangle]], halo: int, size: Size
    ) -> tuple[float, list[Window], list[Shape]]:
        """Of the windows for each of ``covers``, in pixels of the picture, the cheapest: cost, windows, and calls."""
        height, width = size
        plans = []
        for rectangles in covers:
            plan = []
            for rectangle in rectangles:
                writes = grown(scaled(rectangle, self._factor), self.margin, width, height)
                plan.append(Window(writes, self._view(grown(writes, halo, width, height), size)))
            calls = [batch.shape for batch in self._grouped([(0, window) for window in plan], size)]
            plans.append((sum(self.costs.share(call, size) for call in calls), plan, calls))
        return min(plans, key=lambda one: one[0])

    def _view(self, needed: Rectangle, size: Size) -> Rectangle:
        """What a window reads that has to see ``needed``."""
        height, width = size
        view = window_around(needed, width, height, self._align, LATENT_SIDES)
        if not self._networks.large:
            return view
        longest = max(size_of(view))  # a large UNet has square windows only, which are fewer shapes
        return window_around(needed, width, height, self._align, [side for side in LATENT_SIDES if side >= longest])

    def _grouped(self, windows: Sequence[tuple[int, Window]], size: Size) -> list[WindowBatch]:
        """The calls for windows (row, window) that are expected to be the fastest.

        Where networks are built they are built for few numbers of windows: one, and one for each row, or ``SEVERAL`` of
        a single row. The rest of such a call is idle.
        """
        rows = self._kept.kind[0][0]
        most = len(windows) if self._networks.any_shape else rows if rows > 1 else SEVERAL

        def resized(batch: WindowBatch, window: Size) -> WindowBatch | None:
            return self._resized(batch, (len(batch.windows), *window), size) if len(batch.windows) <= most else None

        def cost(shape: Shape) -> float:
            return self.costs.share(shape, size)

        batches: list[WindowBatch] = []
        for batch in grouped(windows, resized, cost):
            if not self._networks.any_shape and len(batch.windows) > 1:
                full = replace(batch, idle=most - len(batch.windows))
                apart = batch.apart()
                batches += [full] if cost(full.shape) < sum(cost(one.shape) for one in apart) else apart
            else:
                batches.append(batch)
        return batches

    def _batches(
        self, context: GlobalContext, inputs: _Inputs, plans: Sequence[list[Window] | None]
    ) -> list[WindowBatch] | None:
        """The calls for all windows; None where there is no network for one of them."""
        # By their number, so that a call is of one window of each row: the context of all rows lies there as it is.
        most = max(len(plan or ()) for plan in plans)
        numbered = [
            (row, plan[number : number + 1]) for number in range(most) for row, plan in enumerate(plans) if plan
        ]
        windows = [(row, window) for row, one in numbered for window in one]
        batches: list[WindowBatch] = []
        for batch in self._grouped(windows, inputs.size):
            found = self._prepared(context, inputs, batch)
            if found is not None:
                batches.append(found)
                continue
            apart = [self._prepared(context, inputs, one) for one in batch.apart()] if len(batch.windows) > 1 else []
            if not apart or None in apart:
                return None
            batches += [one for one in apart if one is not None]
        return batches

    def _prepared(self, context: GlobalContext, inputs: _Inputs, batch: WindowBatch) -> WindowBatch | None:
        """``batch``, or one with more or larger windows that there is a network for; None where there is none."""

        def resized(shape: Shape) -> WindowBatch | None:
            return self._resized(batch, shape, inputs.size)

        def runs(shape: Shape) -> bool:
            larger = resized(shape)
            return larger is not None and self._on_windows(context, inputs, larger, measured=False) is not None

        found = self._shapes.pick(
            batch.shape,
            lambda shape: resized(shape) is not None,
            runs,
            lambda shape: self.costs.share(shape, inputs.size),
        )
        return batch if found == batch.shape else None if found is None else resized(found)

    def _resized(self, batch: WindowBatch, shape: Shape, size: Size) -> WindowBatch | None:
        """``batch`` as a call of this (windows, height, width); None where one does not hold what it writes."""
        height, width = size
        count, *window = shape
        idle = count - len(batch.windows)
        needed = [grown(writes, self._halo, width, height) for writes, _ in batch.windows]
        views = [window_of_size(one, (window[0], window[1]), width, height, self._align) for one in needed]
        if idle < 0 or None in views:
            return None
        windows = [Window(one.writes, view) for one, view in zip(batch.windows, views, strict=True) if view is not None]
        return WindowBatch(batch.rows, tuple(windows), idle)

    # -- the calls ----------------------------------------------------------------------------------------------------

    def _all(self, inputs: _Inputs, cut_off: bool, wanted: bool = False) -> torch.Tensor:
        """A call of all rows as a whole, which may also record.

        Args:
            cut_off: whether all of a row has changed: what was recorded before does not hold for it. It does hold where
                there is just much to compute.
            wanted: whether windows would be faster, if what was recorded still held.
        """
        kept = self._kept
        self.share, self.any_whole = 1.0, True
        due = kept.context is None or kept.recording.due(cut_off, wanted)
        recorded = self._record(inputs) if due else None
        kept.recording = kept.recording.after_whole(cut_off, wanted, recorded is not None)
        if recorded is not None:
            kept.context = GlobalContext({name: one for name, one in recorded.items() if name != OUTPUT}, inputs.size)
            return kept.output.replace(recorded[OUTPUT])
        started = self.costs.start()
        output = self._networks.denoise({"rows": inputs.rows, "timesteps": inputs.timesteps}, inputs.conditions)
        self.costs.stop(started, inputs.size, inputs.size, 1 / len(inputs.rows))
        return kept.output.replace(output)

    def _record(self, inputs: _Inputs) -> dict[str, torch.Tensor] | None:
        """The output for these rows as a whole, and what windows of them need to know; None while it is being built."""
        # A keyframe's wave is of single rows, one a tick: a large UNet is not built once more for them.
        if self._networks.large and len(inputs.rows) < self._kept.kind[0][0]:
            return None
        started = self.costs.start()
        found = self._networks.record(inputs.rows, inputs.timesteps, inputs.conditions)
        if found is not None:
            self.costs.stop(started, inputs.size, inputs.size, WITHOUT_RECORDING / len(inputs.rows))
        return found

    def _record_row(self, inputs: _Inputs) -> dict[str, torch.Tensor]:
        """The same of a batch of one row, without the dimension of rows; in PyTorch where no network is built."""
        found = self._record(inputs)
        if found is None:
            found = self._networks.record(inputs.rows, inputs.timesteps, inputs.conditions, at_once=True)
        assert found is not None, "PyTorch can always record"
        return {name: tensor[0] for name, tensor in found.items()}

    def _changed(
        self, context: GlobalContext, inputs: _Inputs, batches: Sequence[WindowBatch], whole_rows: Sequence[int]
    ) -> bool:
        """Compute the windows, and some rows as a whole, into the kept output; False where a network is gone by now."""
        height, width = size = inputs.size
        everything = [(0, 0, width, height)] if whole_rows else []
        written = [window.writes for batch in batches for window in batch.windows]
        output = self._kept.output.changing(written + everything)
        for number in whole_rows:
            recorded = self._record_row(inputs.row(number))
            output[number] = recorded.pop(OUTPUT)
            context.replace(number, recorded)
        computed = len(whole_rows) * math.prod(size)
        for batch in batches:
            if not self._compute(context, inputs, batch, output):
                return False
            computed += len(batch.windows) * math.prod(batch.size)
        self.share, self.any_whole = computed / (math.prod(size) * len(inputs.rows)), bool(whole_rows)
        return True

    def _compute(self, context: GlobalContext, inputs: _Inputs, batch: WindowBatch, output: torch.Tensor) -> bool:
        """Compute a batch, and take it over into ``output``; False where its network is gone by now."""
        found = self._on_windows(context, inputs, batch)
        if found is None:
            self._shapes.lost(batch.shape)
            return False
        for part, (row, (writes, reads)) in zip(found, batch.of_rows(), strict=False):
            cut(output[row], writes).copy_(cut(part, writes, reads[:2]))
        return True

    def _on_windows(
        self, context: GlobalContext, inputs: _Inputs, batch: WindowBatch, measured: bool = True
    ) -> torch.Tensor | None:
        """(windows, C, h, w) the output on each window; None where the network is not built.

        Args:
            measured: whether its costs are learned from this call.
        """
        self._kept.follow(inputs.conditions)
        rows, windows = batch.all_rows, batch.all_windows
        parts = [cut(inputs.rows[row : row + 1], one.reads) for row, one in zip(rows, windows, strict=True)]
        part = torch.cat(parts) if len(parts) > 1 else parts[0]
        conditions = self._kept.conditions_of(rows)
        given, borders = context.given(rows, windows), context.borders(rows, windows)
        self._networks.prepare_windows()  # so that making the network is not in its times
        started = self.costs.start()
        found = self._networks.on_windows(part, conditions, given, borders)
        if found is None:
            return None
        if measured:
            self.costs.stop(started, batch.shape, inputs.size)
        output = found.pop(OUTPUT)
        for index, (row, window) in enumerate(batch.of_rows()):
            context.add(row, {name: one[index] for name, one in found.items()}, window)
        return output
