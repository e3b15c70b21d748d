"""What is wanted of an NVIDIA card of the H100's kind, and what a run has measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """One figure.

    Attributes:
        name: for people.
        path: where it is in the results of all parts, name by name.
        unit: behind the figure.
        most, least: bounds; without any it is only shown.
    """

    name: str
    path: tuple[str, ...]
    unit: str = "ms"
    most: float | None = None
    least: float | None = None

    def wanted(self) -> str:
        """The bound, for people."""
        if self.most is not None:
            return f"<= {self.most:g}"
        return "" if self.least is None else f">= {self.least:g}"

    def met(self, value: float) -> bool | None:
        """Whether ``value`` is within the bounds; None where there are none."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or value <= self.most) and (self.least is None or value >= self.least)


TARGETS = (
    Target("one step, first picture", ("speed", "T1", "start", "first_picture_s"), "s", most=2),
    Target("one step, pipelined, after 3 s", ("speed", "T1", "start", "early_ms"), most=10),
    Target("one step, longest pause while it builds", ("speed", "T1", "start", "longest_pause_ms")),
    Target("one step, compiled after, beside others", ("prepare", "T1_s"), "s", most=60),
    Target("one step, all found on disk after", ("speed", "T1", "start", "built_s"), "s"),
    Target("one step, pipelined, all built", ("speed", "T1", "auto", "pipelined_ms"), most=5),
    Target("one step, waiting, all built", ("speed", "T1", "auto", "waiting_ms")),
    Target("one step, latency", ("speed", "T1", "auto", "latency_frames"), "frames", most=2),
    Target("one step, pipelined, eager", ("speed", "T1", "eager", "pipelined_ms")),
    Target("one step, pipelined, cuda-graphs", ("speed", "T1", "cuda-graphs", "pipelined_ms")),
    Target("four steps, pipelined, after 3 s", ("speed", "T4", "start", "early_ms")),
    Target("four steps, compiled after, beside others", ("prepare", "T4_s"), "s"),
    Target("four steps, all found on disk after", ("speed", "T4", "start", "built_s"), "s"),
    Target("four steps, pipelined, all built", ("speed", "T4", "auto", "pipelined_ms"), most=8.5),
    Target("four steps, pipelined, eager", ("speed", "T4", "eager", "pipelined_ms")),
    Target("four steps, pipelined, cuda-graphs", ("speed", "T4", "cuda-graphs", "pipelined_ms")),
    Target("over StreamDiffusion, one step, waiting", ("peers", "T1", "ratio"), "x", least=5),
    Target("over StreamDiffusion, one step, pipelined", ("peers", "T1", "ratio_pipelined"), "x"),
    Target("over StreamDiffusion, four steps, waiting", ("peers", "T4", "ratio"), "x", least=3.5),
    Target("over StreamDiffusion, four steps, pipelined", ("peers", "T4", "ratio_pipelined"), "x"),
    Target("full over self-negative, T = 5", ("guidance", "kinds", "full_over_self_negative"), "x", least=1.9),
    Target("one after the other over Stream Batch, T = 4", ("guidance", "stream_batch", "sequential_over_batch"), "x"),
    Target("embedded model, 512, pipelined", ("embedded", "512", "pipelined_ms"), most=2.5),
    Target("embedded model, 256, pipelined", ("embedded", "256", "pipelined_ms")),
    Target("SDXL's UNet, eager", ("sdxl", "eager", "ms")),
    Target("SDXL's UNet, cuda-graphs", ("sdxl", "cuda-graphs", "ms")),
    Target("SDXL's UNet, all built", ("sdxl", "auto", "ms"), most=9),
    Target("dense over sparse, T = 1, 512, 1.2 %", ("sparse", "T1 512", "1.2 %", "ratio"), "x", least=0.97),
    Target("dense over sparse, T = 1, 512, 25 %", ("sparse", "T1 512", "25 %", "ratio"), "x", least=0.97),
    Target("dense over sparse, T = 4, 512, 5 %", ("sparse", "T4 512", "5 %", "ratio"), "x", least=2),
    Target("dense over sparse, T = 1, 1024, 5 %", ("sparse", "T1 1024", "5 %", "ratio"), "x", least=2),
)


def figures(results: Mapping[str, Any]) -> Iterator[tuple[Target, float | None]]:
    """Each target with what was measured of it, None where that was not.

    Args:
        results: of the parts, by their names.
    """
    for target in TARGETS:
        value: Any = results
        for name in target.path:
            value = value.get(name) if isinstance(value, Mapping) else None
        yield target, value
