"""A UNet that computes only what changed: on windows of the latent, with what it knows of the whole."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pipeline.backends.graphs import shared_copy
from pipeline.conditioning.attention_cache import AttentionCache, uncached_copy
from pipeline.diffusion.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.sparse.buffer_pool import BufferAgePool
from pipeline.sparse.context_hooks import ContextHooks, Unsupported
from pipeline.sparse.costs import Costs, Shape
from pipeline.sparse.global_context import GlobalContext, Place, Size
from pipeline.sparse.packed import pack
from pipeline.sparse.rectangles import Change, Rectangle, cover, cut, filled, grown, placed, scaled, shape_of, window
from pipeline.sparse.window_batch import WindowBatch
from pipeline.sparse.window_shapes import WindowShapes
from pipeline.sparse.window_unet import RecordingUNet, WindowUNet

# Pixels of the latent around a changed one that are computed anew, and those that are looked at beyond; mostly more,
# as windows have few shapes. A second one to look at would bring 0.05 to 0.2 dB.
WRITES, HALO = 1, 1
# Sides of windows in pixels of the latent: each shape is a network of its own to a compiler.
SIDES = (16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112, 128)
# At most so many windows a row, and the share of the whole that a further one must save: the UNet's many small layers
# cost much however small a window is.
MOST, ONE_MORE = 3, 0.1
# What a call costs beside its area, as a share of the whole.
OVERHEAD = 0.1
# As many windows' networks are kept, each of which takes some 100 MB; and of a large UNet.
MOST_SHAPES, MOST_OF_LARGE = 8, 2
# After the first few, one is built in so many windows wanted.
ONE_IN = 16
# While pictures are wholly changed, tick by tick, what parts need to know is recorded at the first tick and at each so
# many: recording makes a call a third longer.
RECORD_EVERY = 32
# After that, once parts were wanted at so many calls in a row: what is recorded is to be of use for more than one.
RECORD_AFTER = 2
# Share of a recording call's time that the call takes without.
WITHOUT_RECORDING = 0.75
# A UNet of more weights than this gets square windows only: each shape is another copy of the weights to a compiler.
LARGE = 300_000_000

# Runs a whole tick on the UNet as it is.
Whole = Callable[[], torch.Tensor]

Network = RecordingUNet | WindowUNet


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
        ContextHooks(model.unet)
        self._model = model
        self._align = 2 ** (len(model.unet.config.block_out_channels) - 1)
        self._square = sum(parameter.numel() for parameter in model.unet.parameters()) > LARGE
        self._modules: dict[type[Network], Network] = {}
        self._shapes, self._shapes_of = self._no_shapes(), None
        self.costs = Costs(OVERHEAD)
        self.share = 1.0
        self.forget()

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._output = BufferAgePool()
        self._known: GlobalContext | None = None
        self._prompts: tuple[torch.Tensor, ...] = ()
        self._prompt_rows: list[list[torch.Tensor]] = []  # the same of each row
        self._layout: RowLayout = ()
        self._shape: tuple[int, ...] = ()  # (rows, height, width)
        self._stale = True  # there was a cut since it was recorded
        self._in_a_row = 0  # calls after a cut
        self._wanted = 0  # calls in a row at which parts would have been faster

    def weights_changed(self) -> None:
        """The UNet's weights or layers are others now."""
        self._modules = {}
        self._shapes_of = None
        self.costs = Costs(OVERHEAD)
        self.forget()

    def _no_shapes(self) -> WindowShapes:
        if self._model.backend.name == "eager":
            return WindowShapes(None)
        return WindowShapes(MOST_OF_LARGE if self._square else MOST_SHAPES, ONE_IN)

    @property
    def memory(self) -> int:
        """Bytes that are kept."""
        return self._output.memory + (0 if self._known is None else self._known.memory)

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
        shape = (len(rows), *rows.shape[2:])
        if self._shape != shape or layout != self._layout:
            self.forget()
            self._shape, self._layout = shape, layout
            if self._shapes_of != (shape, layout):
                self._shapes_of, self._shapes = (shape, layout), self._no_shapes()
        size = (rows.shape[2], rows.shape[3])
        plans = [self._plan(None if self._known is None else change, size) for change in changes]
        if not any(plan is None or plan for plan in plans):
            self.share = 0.0
            assert self._output.newest is not None
            return self._output.newest
        inputs = [rows, timesteps, embeddings, *cache.laid_out(layout)]
        anew = any(change is None for change in changes)
        whole_rows = sum(plan is None for plan in plans)
        turns = None if self._known is None or whole_rows == len(rows) else self._turns(self._known, inputs, plans)
        if self._known is None or turns is None:
            return self._all(inputs, whole, anew)
        if not self.costs.worth([turn.priced for turn in turns] + [size] * whole_rows, size, len(rows)):
            return self._all(inputs, whole, anew)
        if self._stale:
            return self._all(inputs, whole, anew, wanted=True)
        everything = [(0, 0, size[1], size[0])] if whole_rows else []
        output = self._output.changing([target for turn in turns for target, _ in turn.places.values()] + everything)
        computed = 0
        for number, plan in enumerate(plans):
            if plan is None:
                output[number], *known = self._record_row(number, inputs)
                self._known.replace(number, known)
                computed += math.prod(size)
        for turn in turns:
            if not self._compute(self._known, inputs, turn, output):  # its network has been given up
                return self._all(inputs, whole, anew)
            computed += len(turn.places) * math.prod(turn.window)
        self.share = computed / (math.prod(size) * len(rows))
        self._in_a_row = 0
        return output

    def _plan(self, change: Change, size: Size) -> list[Place] | None:
        """What to write and what to look at for it; None where the whole is faster."""
        if change is None:
            return None
        height, width = size
        factor = self._model.autoencoder.factor
        blocks = filled(change, height * factor, width * factor)
        plans = []
        for most in (1, MOST):
            plan = []
            for rectangle in cover(blocks, most, ONE_MORE):
                target = grown(scaled(rectangle, factor), WRITES, width, height)
                plan.append((target, self._view(grown(target, HALO, width, height), size)))
            plans.append(plan)
        plan = min(plans, key=lambda one: sum(self.costs.share(shape_of(view), size) for _, view in one))
        return plan if self.costs.worth((shape_of(view) for _, view in plan), size) else None

    def _view(self, looked_at: Rectangle, size: Size) -> Rectangle:
        """The window around it."""
        height, width = size
        view = window(looked_at, width, height, self._align, SIDES)
        if not self._square:
            return view
        longest = max(shape_of(view))
        return window(looked_at, width, height, self._align, [side for side in SIDES if side >= longest])

    def _turns(
        self, known: GlobalContext, inputs: list[torch.Tensor], plans: Sequence[list[Place] | None]
    ) -> list[WindowBatch] | None:
        """All windows, those of several rows in one call where that is expected to be faster: weights are read once.

        None where there is no network for one of them.
        """
        size = (inputs[0].shape[2], inputs[0].shape[3])
        turns: list[WindowBatch] = []
        for number in range(max(len(plan or ()) for plan in plans)):
            each = WindowBatch(
                {row: plan[number] for row, plan in enumerate(plans) if plan and number < len(plan)}, len(plans)
            )
            apart = each.alone()
            longest = map(max, zip(*(shape_of(view) for _, view in each.places.values()), strict=True))
            together = self._moved(each, tuple(longest), size) if each.together else None
            if together is not None and self._cost([together], size) < self._cost(apart, size):
                built = self._built(known, inputs, together)
                if built is not None:
                    turns.append(built)
                    continue
            for turn in apart:
                built = self._built(known, inputs, turn)
                if built is None:
                    return None
                turns.append(built)
        return turns

    def _cost(self, turns: Sequence[WindowBatch], size: Size) -> float:
        return sum(self.costs.share(turn.priced, size) for turn in turns)

    def _built(self, known: GlobalContext, inputs: list[torch.Tensor], turn: WindowBatch) -> WindowBatch | None:
        """``turn``, or one with larger windows that there is a network for."""
        size = (inputs[0].shape[2], inputs[0].shape[3])

        def moved(shape: Shape) -> WindowBatch | None:
            return self._moved(turn, shape[1:], size) if shape[0] == turn.shape[0] else None

        def runs(shape: Shape) -> bool:
            larger = moved(shape)
            return larger is not None and self._windowed(known, inputs, larger, priced=False) is not None

        def cost(shape: Shape) -> float:
            return self.costs.share(shape if turn.together else shape[1:], size)

        found = self._shapes.pick(turn.shape, lambda shape: moved(shape) is not None, runs, cost)
        return turn if found == turn.shape else None if found is None else moved(found)

    def _moved(self, turn: WindowBatch, shape: tuple[int, ...], size: Size) -> WindowBatch | None:
        """The same with windows of this (height, width); None where one does not hold what it should."""
        moved: dict[int, Place] = {}
        height, width = size
        for row, (target, _) in turn.places.items():
            view = placed(grown(target, HALO, width, height), (shape[0], shape[1]), width, height, self._align)
            if view is None:
                return None
            moved[row] = target, view
        return WindowBatch(moved, turn.rows)

    def _all(self, inputs: list[torch.Tensor], whole: Whole, anew: bool, wanted: bool = False) -> torch.Tensor:
        """A call of all rows as a whole.

        After a row of which all has changed (``anew``), what is recorded holds no more; where there is just much to
        compute, it does. ``wanted`` says that parts would do, if what is recorded still held.
        """
        self.share = 1.0
        record = self._known is None or (anew and self._in_a_row % RECORD_EVERY == 0)
        record = record or (wanted and self._wanted + 1 >= RECORD_AFTER)
        found = self._record(inputs) if record else None
        self._in_a_row = self._in_a_row + 1 if anew else 0
        self._wanted = self._wanted + 1 if wanted and found is None else 0
        self._stale = found is None and (anew or self._stale)
        rows = inputs[0]
        size = (rows.shape[2], rows.shape[3])
        if found is not None:
            output, *known = found
            self._known = GlobalContext(known, size)
            return self._output.replace(output)
        with self.costs.timed(size, size, len(rows), rows.device):
            return self._output.replace(whole())

    def _record(self, inputs: list[torch.Tensor]) -> list[torch.Tensor] | None:
        """The output for these rows as a whole, and what parts of them need to know; None while it is being built."""
        rows, size = inputs[0], (inputs[0].shape[2], inputs[0].shape[3])
        # A wave of a keyframe is single rows, one a tick: a large UNet is not built once more for them.
        if self._square and len(rows) < self._shape[0]:
            return None
        started = time.perf_counter()
        found = self._run(RecordingUNet, inputs[:2], inputs[2:])
        if found is not None and rows.device.type == "cpu":
            seconds = WITHOUT_RECORDING * (time.perf_counter() - started)
            self.costs.note(size, size, seconds / len(rows))
        return found

    def _record_row(self, number: int, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Of one row; by the model itself where no network is built."""
        row = [tensor[number : number + 1] for tensor in inputs]
        found = self._record(row)
        return [tensor[0] for tensor in (list(self._module(RecordingUNet)(*row)) if found is None else found)]

    def _compute(
        self, known: GlobalContext, inputs: list[torch.Tensor], turn: WindowBatch, output: torch.Tensor
    ) -> bool:
        """Compute a turn's windows, and write what counts into ``output``; False where there is no network for it."""
        found = self._windowed(known, inputs, turn)
        if found is None:
            self._shapes.lost(turn.shape)
            return False
        for index, row in enumerate(turn.numbers):
            if row in turn.places:
                target, view = turn.places[row]
                cut(output[row], target).copy_(cut(found[index], target, view[:2]))
        return True

    def _windowed(
        self, known: GlobalContext, inputs: list[torch.Tensor], turn: WindowBatch, priced: bool = True
    ) -> torch.Tensor | None:
        """(1 or B, C, h, w) the output inside each window; None where the network is not built."""
        rows, prompts = inputs[0], inputs[3:]
        if len(prompts) != len(self._prompts) or any(map(operator.is_not, prompts, self._prompts)):
            self._prompts = tuple(prompts)
            self._prompt_rows = [[prompt[row : row + 1] for prompt in prompts] for row in range(len(rows))]
        first, (_, view) = next(iter(turn.places.items()))
        nothing = (*view[:2], *view[:2]), view
        places = [turn.places.get(number, nothing) for number in turn.numbers]
        parts = [cut(rows[row : row + 1], seen) for row, (_, seen) in zip(turn.numbers, places, strict=True)]
        prompted = self._prompts if turn.together else self._prompt_rows[first]
        part = torch.cat(parts) if turn.together else parts[0]
        if self._model.backend.name == "eager":
            self._module(WindowUNet)  # to make it is not in its times
        started = time.perf_counter()
        found = self._run(WindowUNet, [part], [*prompted, *known.given(turn.numbers, places)])
        if found is None:
            return None
        if priced and rows.device.type == "cpu":
            self.costs.note(turn.priced, (rows.shape[2], rows.shape[3]), time.perf_counter() - started)
        for index, row in enumerate(turn.numbers):
            if row in turn.places:
                known.add(row, [tensor[index] for tensor in found[1:]], turn.places[row])
        return found[0]

    def _run(
        self, kind: type[Network], moving: list[torch.Tensor], staying: list[torch.Tensor]
    ) -> list[torch.Tensor] | None:
        """What the network gives for these inputs; None where the backend has none for their shapes yet."""
        backend = self._model.backend
        if backend.name == "eager":
            return list(self._module(kind)(*moving, *staying))
        name = "unet-whole" if kind is RecordingUNet else "unet-part"
        return backend.network(name, partial(self._copy, kind), moving, staying)

    def _module(self, kind: type[Network]) -> Network:
        """On the model's own weights, but for windows of a large UNet on a CPU."""
        if kind not in self._modules:
            self._modules[kind] = kind(shared_copy(self._model.unet))
            if kind is WindowUNet and self._square:
                pack(self._modules[kind])
        return self._modules[kind]

    def _copy(self, kind: type[Network]) -> Network:
        """For a compiler, or to be captured."""
        if self._model.backend.shares_weights:
            return kind(shared_copy(self._model.unet))
        return kind(uncached_copy(self._model.unet).float())
