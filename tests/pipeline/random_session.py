"""Random sessions: every setting changed live, sizes, buffers, memory, weights; what must hold after any of it.

``uv run python -m tests.pipeline.random_session --seconds 600 --seed 1`` runs them for ten minutes; the test beside
runs a few. A session that goes wrong is printed with its seed, by which it can be run again.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from pipeline import GUIDANCE_KINDS, SOLVERS, SPACINGS, Model, Output, Stream, StreamConfig
from pipeline.config import MEMORY_MODES, SEED_TRAVELS
from tests.adapters import write_lora
from tests.controls import new_adapter, new_controlnet, write_control
from tests.tiny_model import tiny_model, unet_of

# Of a settled picture, 0..1: rows of a batch may be summed in another order than rows of a stream that began anew.
CLOSE = 2e-3
SIZES = ((32, 32), (64, 64), (48, 32), (128, 128))
# Of these sizes, the one that is large enough for sparse inference to compute parts of a picture.
WINDOWED = (128, 128)
EVENTS = 40
_HINTS = ("canny", "sketch", "soft-edge")  # of those that are made without a model

# Every setting of a stream, and how a new value is drawn. Threshold and cap of the filter go with the filter.
DRAWN: dict[str, Callable[[random.Random], Any]] = {
    "prompt": lambda r: r.choice(("a", "b", "a::2 b::1", "(a:1.3)")),
    "negative_prompt": lambda r: r.choice("bc"),
    "prompt_b": lambda r: r.choice("ab"),
    "blend": lambda r: r.choice((0.0, 0.5)),
    "transition": lambda r: r.choice((0.0, 0.1)),
    "strength": lambda r: r.choice((0.05, 0.3, 0.7, 1.0)),
    "steps": lambda r: r.choice((1, 2, 3, 4, 6)),
    "timesteps": lambda r: r.choice(("", "", "559,359,199,99", "300,0")),
    "solver": lambda r: r.choice(SOLVERS),
    "spacing": lambda r: r.choice(SPACINGS),
    "tcd_gamma": lambda r: r.choice((0.0, 0.3, 1.0)),
    "guidance": lambda r: r.choice(GUIDANCE_KINDS),
    "guidance_scale": lambda r: r.choice((1.0, 1.5)),
    "guidance_rescale": lambda r: r.choice((0.0, 1.0)),
    "image_guidance": lambda r: r.choice((1.0, 1.5)),
    "attention_guidance": lambda r: r.choice((1.0, 3.0)),
    "attention_limit": lambda r: r.choice((1.5, 2.5)),
    "attention_blend": lambda r: r.choice((0.0, 0.5)),
    "delta": lambda r: r.choice((0.5, 1.0)),
    "seed": lambda r: r.randrange(5),
    "seed_b": lambda r: r.randrange(5),
    "seed_blend": lambda r: r.choice((0.0, 0.5)),
    "text_to_image": lambda r: r.random() < 0.2,
    "seed_travel": lambda r: r.choice(SEED_TRAVELS),
    "prompt_travel": lambda r: r.random() < 0.3,
    "travel_frames": lambda r: r.choice((1, 4, 60)),
    "shape_strength": lambda r: r.choice((0.0, 0.5, 1.0)),
    "look_weight": lambda r: r.choice((0.0, 0.5, 1.0)),
    "only": lambda r: r.choice(("everything", "everything", "person", "background")),
    "background": lambda r: r.choice(("", "", "blur:2", "none", "green")),
    "mask_growth": lambda r: r.choice((-2, 0, 3)),
    "mask_feather": lambda r: r.choice((0, 2)),
    "mask_smoothing": lambda r: r.choice((0.0, 0.5)),
    "feature_bank": lambda r: r.choice((0.0, 0.0, 0.5)),
    "similarity_filter": lambda r: r.random() < 0.7,
    "sparse": lambda r: r.random() < 0.6,
    "sparse_overlay": lambda r: r.random() < 0.2,
}
# What a still scene must settle to does not depend on these.
CALM = {
    "feature_bank": 0.0,
    "transition": 0.0,
    "mask_smoothing": 0.0,
    "text_to_image": False,
    "prompt_travel": False,
    "similarity_filter": False,
    "sparse_overlay": False,
}


@dataclass
class RandomSession:
    """One session by its seed.

    Attributes:
        log: what happened, for whoever looks for the cause.
        frames: how many there were.
    """

    seed: int
    lora: Path | None = None
    controls: tuple[Path, ...] = ()
    log: list[object] = field(default_factory=list)
    frames: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        self._scene = torch.rand(3, 128, 128, generator=generator)
        self._model: Model = tiny_model(self._random.random() < 0.5)
        self._size, self._buffer = SIZES[0], 1
        self._due: deque[int] = deque()  # tags whose pictures are not out
        self._dropped = False  # whether frames in flight may have been dropped since the last picture
        self._shape: tuple[int, ...] = ()

    def run(self) -> str | None:
        """Go through it; what did not hold, in words, or None."""
        config = StreamConfig(prompt="a", negative_prompt="b", steps=self._random.choice((1, 2, 3)), strength=0.7)
        stream = Stream(self._model, config)
        try:
            for _ in range(EVENTS):
                problem = self._event(stream)
                if problem:
                    return problem
            return self._settled(stream)
        finally:
            stream.close()

    def _event(self, stream: Stream) -> str | None:
        chance = self._random.random()
        if chance < 0.35:
            self._change(stream)
        elif chance < 0.40:
            return self._flush(stream)
        elif chance < 0.43:
            self.log.append("reset")
            stream.reset()
            self._dropped = True
        elif chance < 0.47:
            mode = self._random.choice(MEMORY_MODES)
            self.log.append(mode)
            stream.save_memory(mode)
        elif chance < 0.52:
            self._size, self._buffer = self._random.choice(SIZES), self._random.choice((1, 2))
            self.log.append((self._size, self._buffer))
        else:
            return self._frame(stream)
        return None

    def _change(self, stream: Stream) -> None:
        names = self._random.sample(sorted(DRAWN), self._random.choice((1, 1, 2, 3)))
        changes = {name: DRAWN[name](self._random) for name in names}
        if self.lora is not None and self._random.random() < 0.2:
            changes["loras"] = self._random.choice(("", f"{self.lora}:0.5", str(self.lora)))
        if self.controls and self._random.random() < 0.3:
            changes["keep_shape"] = self._shapes()
        config = replace(stream.config, **changes)
        if config.conflict is None:
            self.log.append(changes)
            old = stream.config
            self._dropped |= config.step_count < old.step_count or config.text_to_image != old.text_to_image
            stream.configure(config)

    def _shapes(self) -> str:
        """None, one or two of the controls, each shown one of the hints."""
        chosen = self._random.sample(self.controls, self._random.choice((0, 1, 1, 2)))
        return "; ".join(f"{self._random.choice(_HINTS)}:{self._random.choice((0.4, 0.8))} @ {one}" for one in chosen)

    def _flush(self, stream: Stream) -> str | None:
        self.log.append("flush")
        for output in stream.flush():
            if problem := self._problem_with_tags(output):
                return problem
        left, self._due = self._due, deque()
        return None if self._dropped or not left else f"the pictures of {list(left)} never came"

    def _problem_with_tags(self, output: Output) -> str | None:
        """Every frame has its picture once, and in order, unless it was dropped."""
        if output.repeated:
            return None
        for tag in (tag for tags in (output.tags, *output.followers) for tag in tags):
            while self._dropped and self._due and self._due[0] < tag:
                self._due.popleft()
            if not self._due or self._due.popleft() != tag:
                return f"the picture of frame {tag} came out of turn"
        self._dropped = False
        return None

    def _frame(self, stream: Stream) -> str | None:
        scene = self._scene.clone()
        if self._random.random() < 0.6:
            left = self._random.randrange(112)
            scene[:, left : left + 16, left : left + 16] = self._random.random()
        frames = self._cut(scene)
        self.log.append(("frame", tuple(frames.shape)))
        self._dropped |= tuple(frames.shape) != self._shape
        self._shape = tuple(frames.shape)
        tags = range(self.frames, self.frames + len(frames))
        self._due.extend(tags)
        output: Output | None = stream(frames, tags)
        self.frames += len(frames)
        if output.image.shape != frames.shape:
            return f"the picture is {tuple(output.image.shape)}, the frame {tuple(frames.shape)}"
        if not bool(output.image.isfinite().all()):
            return "the picture is not finite"
        while output is not None:
            if problem := self._problem_with_tags(output):
                return problem
            output = stream.idle() if self._random.random() < 0.1 else None
        if len(stream._in_flight) != stream.config.step_count - 1:
            return f"{len(stream._in_flight)} groups are in flight for {stream.config.step_count} steps"
        return None

    def _settled(self, stream: Stream) -> str | None:
        """On a still scene the stream must come to what a new one gives that has seen nothing else."""
        stream.save_memory("full")
        for sparse in (stream.config.sparse, not stream.config.sparse):
            config = replace(stream.config, **CALM, sparse=sparse)
            if sparse and self._size == WINDOWED:
                # Around a person only what is seen is computed anew, and what is only about right stays (see below).
                config = replace(config, only="everything", background="")
            stream.configure(config)
            frames = self._cut(self._scene)
            if sparse and self._size == WINDOWED:
                # A part that is computed anew is only about right (how nearly: tests/pipeline/sparse), and what was
                # wrong stays in a still scene. A frame that is another everywhere leaves nothing of it.
                stream(1 - frames, at=1e6 - 1)
            outputs = [stream(frames, at=1e6 + number) for number in range(config.step_count + 2)]
            fresh = Stream(self._model, replace(config, sparse=False))
            expected = [fresh(frames) for _ in range(config.step_count + 1)]
            error = float((outputs[-1].image - expected[-1].image).abs().max())
            if error > CLOSE:
                return f"it settles {error:.2g} from a new stream (sparse {sparse}): {config}"
        return None

    def _cut(self, scene: torch.Tensor) -> torch.Tensor:
        height, width = self._size
        return scene[:, :height, :width].unsqueeze(0).repeat(self._buffer, 1, 1, 1)


def write_controls(folder: Path) -> tuple[Path, ...]:
    """T2I-Adapters and ControlNets for the models of these sessions."""
    unet = unet_of(tiny_model())
    made = {"adapter": new_adapter(unet), "grey": new_adapter(unet, channels=1), "controlnet": new_controlnet(unet)}
    return tuple(write_control(folder / name, control) for name, control in made.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, end, seed, frames, bad = Console(), time.monotonic() + options.seconds, options.seed, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        loras, controls = {}, write_controls(Path(folder))
        for sees_input in (False, True):
            loras[sees_input] = Path(folder) / f"{sees_input}.safetensors"
            write_lora(loras[sees_input], tiny_model(sees_input), "kohya")
        while time.monotonic() < end:
            session = RandomSession(seed)
            session.lora = loras[session._model.sees_input]
            session.controls = controls
            problem = session.run()
            if problem:
                bad += 1
                console.print(f"seed {seed}: {problem}\n  {session.log[-8:]}")
            frames, seed = frames + session.frames, seed + 1
    console.print(f"{seed - options.seed} sessions, {frames} frames, {bad} went wrong")


if __name__ == "__main__":
    main()
