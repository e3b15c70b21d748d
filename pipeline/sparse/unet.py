"""A UNet that computes only what changed: on windows of the latent, with what it knows of the whole."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from pipeline.acceleration.graphs import shared_copy
from pipeline.attention_cache import AttentionCache, uncached_copy
from pipeline.guidance import RowLayout
from pipeline.models.model import Model
from pipeline.sparse.context import Context, Unsupported
from pipeline.sparse.costs import WORTH, Costs, Shape
from pipeline.sparse.kept import Kept
from pipeline.sparse.packed import pack
from pipeline.sparse.part_unet import PartUNet, WholeUNet
from pipeline.sparse.recorded import Place, Recorded, Size
from pipeline.sparse.rectangles import Change, cover, cut, filled, grown, placed, scaled, shape_of, window

# Pixels of the latent around a changed one that are computed anew, and those that are looked at beyond; mostly more,
# as windows have few shapes. One pixel would do for the embedded model; with random weights noise then adds up.
WRITES, HALO = 1, 2
# Sides of windows in pixels of the latent: each shape is a network of its own to a compiler.
SIDES = (16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128)
# At most so many windows a row, and the share of the whole that a further one must save: the UNet's many small layers
# cost much however small a window is.
MOST, ONE_MORE = 3, 0.2
# While pictures are wholly changed, tick by tick, what parts need to know is recorded at the first tick and at each so
# many: recording costs a fifth of a call.
RECORD_EVERY = 32

# Share of a recording call's time that the call takes without.
WITHOUT_RECORDING = 0.8
# A UNet of more weights than this gets square windows only: each shape is another copy of the weights to a compiler.
LARGE = 300_000_000

# Runs a whole tick on the UNet as it is.
Whole = Callable[[], torch.Tensor]

Network = WholeUNet | PartUNet


@dataclass(frozen=True)
class Turn:
    """Windows that are computed in one call, all of one shape: that of one row, or those of several.

    A call of several is of all rows of the batch, as networks are built for numbers of rows: those that have no window
    look where another does, and nothing comes of it.

    Attributes:
        places: by row.
        rows: how many the batch has.
    """

    places: dict[int, Place]
    rows: int

    @property
    def together(self) -> bool:
        return len(self.places) > 1

    @property
    def numbers(self) -> Sequence[int]:
        """The rows that the call is of."""
        return range(self.rows) if self.together else tuple(self.places)

    @property
    def window(self) -> Size:
        """(height, width) of each."""
        return shape_of(next(iter(self.places.values()))[1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, height, width) of the call."""
        return len(self.numbers), *self.window

    @property
    def priced(self) -> Shape:
        """What ``Costs`` knows the call by."""
        return self.shape if self.together else self.window

    def alone(self) -> list[Turn]:
        """The same, each in a call of its own."""
        return [Turn({row: place}, self.rows) for row, place in self.places.items()]


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
        self._align = 2 ** (len(model.unet.config.block_out_channels) - 1)
        self._square = sum(parameter.numel() for parameter in model.unet.parameters()) > LARGE
        self._modules: dict[type[Network], Network] = {}
        self._built: set[tuple[int, ...]] = set()  # (rows, height, width) of windows that have been run
        self.costs = Costs()
        self.share = 1.0
        self.forget()

    def forget(self) -> None:
        """Drop what is kept: the next call is of the whole."""
        self._output = Kept()
        self._known: Recorded | None = None
        self._prompts: tuple[torch.Tensor, ...] = ()
        self._prompt_rows: list[list[torch.Tensor]] = []  # the same of each row
        self._layout: RowLayout = ()
        self._shape: tuple[int, ...] = ()  # (rows, height, width)
        self._stale = True  # there was a cut since it was recorded
        self._in_a_row = 0  # calls after a cut

    def weights_changed(self) -> None:
        """The UNet's weights or layers are others now."""
        self._modules = {}
        self._built = set()
        self.costs = Costs()
        self.forget()

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
        size = (rows.shape[2], rows.shape[3])
        plans = [self._plan(None if self._known is None else change, size) for change in changes]
        if not any(plan is None or plan for plan in plans):
            self.share = 0.0
            assert self._output.newest is not None
            return self._output.newest
        inputs = [rows, timesteps, embeddings, *cache.laid_out(layout)]
        turns = self._turns(plans, size)
        expected = sum(plan is None for plan in plans) + sum(self.costs.share(turn.priced, size) for turn in turns)
        anew = any(change is None for change in changes)
        if self._known is None or all(plan is None for plan in plans) or expected > WORTH * len(rows):
            return self._all(inputs, whole, anew)
        if self._stale:
            return self._all(inputs, whole, anew, record=True)
        whole_rows = [(0, 0, size[1], size[0])] if any(plan is None for plan in plans) else []
        output = self._output.changing([target for turn in turns for target, _ in turn.places.values()] + whole_rows)
        computed = 0
        for number, plan in enumerate(plans):
            if plan is None:
                output[number], *known = (found[0] for found in self._record([t[number : number + 1] for t in inputs]))
                self._known.replace(number, known)
                computed += math.prod(size)
        for turn in turns:
            looked_at = self._compute(self._known, inputs, turn, output)
            if not looked_at:  # no network will do that is built yet
                return self._all(inputs, whole, anew)
            computed += looked_at
        self.share = computed / (math.prod(size) * len(rows))
        self._in_a_row = 0
        return output

    def _plan(self, change: Change, size: Size) -> list[Place] | None:
        """What to write and what to look at for it; None where the whole is faster."""
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
        return plan if self.costs.worth((shape_of(view) for _, view in plan), size) else None

    def _turns(self, plans: Sequence[list[Place] | None], size: Size) -> list[Turn]:
        """All windows, those of several rows in one call where that is expected to be faster: weights are read once."""
        turns: list[Turn] = []
        for number in range(max(len(plan or ()) for plan in plans)):
            each = Turn(
                {row: plan[number] for row, plan in enumerate(plans) if plan and number < len(plan)}, len(plans)
            )
            apart = each.alone()
            longest = map(max, zip(*(shape_of(view) for _, view in each.places.values()), strict=True))
            together = self._moved(each, tuple(longest), size) if each.together else None
            faster = together is not None and self.costs.share(together.priced, size) < sum(
                self.costs.share(turn.priced, size) for turn in apart
            )
            turns += [together] if together is not None and faster else apart
        return turns

    def _moved(self, turn: Turn, shape: tuple[int, ...], size: Size) -> Turn | None:
        """The same with windows of this (height, width); None where one does not hold what it should."""
        moved: dict[int, Place] = {}
        height, width = size
        for row, (target, _) in turn.places.items():
            view = placed(grown(target, HALO, width, height), (shape[0], shape[1]), width, height, self._align)
            if view is None:
                return None
            moved[row] = target, view
        return Turn(moved, turn.rows)

    def _all(self, inputs: list[torch.Tensor], whole: Whole, anew: bool, record: bool = False) -> torch.Tensor:
        """A call of all rows as a whole.

        After a row of which all has changed (``anew``), what is recorded holds no more; where there is just much to
        compute, it does.
        """
        self.share = 1.0
        record = record or self._known is None or (anew and self._in_a_row % RECORD_EVERY == 0)
        self._in_a_row = self._in_a_row + 1 if anew else 0
        self._stale = not record and (anew or self._stale)
        rows = inputs[0]
        size = (rows.shape[2], rows.shape[3])
        if record:
            output, *known = self._record(inputs)
            self._known = Recorded(known, size)
            return self._output.replace(output)
        with self.costs.timed(size, len(rows), rows.device):
            return self._output.replace(whole())

    def _record(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The output for these rows as a whole, and what parts of them need to know."""
        rows = inputs[0]
        started = time.perf_counter()
        # A wave of a keyframe is single rows, one a tick: a large UNet is not built once more for them.
        single = self._square and len(rows) < self._shape[0]
        found = None if single else self._run(WholeUNet, inputs[:2], inputs[2:])
        if found is None:
            return list(self._module(WholeUNet)(*inputs))
        if rows.device.type == "cpu":
            seconds = WITHOUT_RECORDING * (time.perf_counter() - started)
            self.costs.note((rows.shape[2], rows.shape[3]), seconds / len(rows))
        return found

    def _compute(self, known: Recorded, inputs: list[torch.Tensor], turn: Turn, output: torch.Tensor) -> int:
        """Compute a turn's windows, and write what counts into ``output``.

        While the network for these windows is being built, that for larger ones does it.

        Returns:
            How many pixels were looked at; 0 where no network is built that would do.
        """
        size = (inputs[0].shape[2], inputs[0].shape[3])
        found = self._windowed(known, inputs, turn)
        if found is None and turn.together and not self._square:
            shares = [self._compute(known, inputs, one, output) for one in turn.alone()]
            return sum(shares) if all(shares) else 0
        if found is None:
            larger = self._larger(turn, size)
            found = None if larger is None else self._windowed(known, inputs, larger)
            if larger is None or found is None:
                return 0
            turn = larger
        for index, row in enumerate(turn.numbers):
            if row in turn.places:
                target, view = turn.places[row]
                cut(output[row], target).copy_(cut(found[index], target, view[:2]))
        return len(turn.places) * math.prod(turn.window)

    def _larger(self, turn: Turn, size: Size) -> Turn | None:
        """The same with the smallest larger windows whose network is known to be there."""
        moved = [self._moved(turn, shape[1:], size) for shape in self._built if shape[0] == turn.shape[0]]
        most = WORTH * len(turn.places)
        larger = [one for one in moved if one is not None and self.costs.share(one.priced, size) < most]
        return min(larger, key=lambda one: math.prod(one.window), default=None)

    def _windowed(self, known: Recorded, inputs: list[torch.Tensor], turn: Turn) -> torch.Tensor | None:
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
        started = time.perf_counter()
        found = self._run(PartUNet, [part], [*prompted, *known.given(turn.numbers, places)])
        if found is None:
            self._built.discard(turn.shape)
            return None
        self._built.add(turn.shape)
        if rows.device.type == "cpu":
            self.costs.note(turn.priced, time.perf_counter() - started)
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
        name = "unet-whole" if kind is WholeUNet else "unet-part"
        return backend.network(name, partial(self._copy, kind), moving, staying)

    def _module(self, kind: type[Network]) -> Network:
        """On the model's own weights, but for windows of a large UNet on a CPU."""
        if kind not in self._modules:
            self._modules[kind] = kind(shared_copy(self._model.unet))
            if kind is PartUNet and self._square:
                pack(self._modules[kind])
        return self._modules[kind]

    def _copy(self, kind: type[Network]) -> Network:
        """For a compiler."""
        return kind(uncached_copy(self._model.unet).float())
