"""How steady the picture is, and how near a carried one comes to the model's own.

``python -m tests.benchmarks.steady`` styles the sample clip and the clips of ``--clips`` with the embedded model and
compares, all in one process. The figures go to ``results/``; ``--out FOLDER`` also writes the clips side by side.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from app.engine import Loaded, ModelFacts
from app.frame import Frame
from app.reprojection.reprojector import Reprojector
from app.reprojection.track import Track
from app.session import Session
from app.settings import Settings
from app.sinks.callback import CallbackSink
from app.sinks.video import VideoSink
from app.steadiness import Steadier
from assets.sample.scene import Scene
from pipeline import load_model
from tests.app.fakes import FakeEngine
from tests.benchmarks.machine import save
from tests.benchmarks.steady_material import (
    SAMPLE,
    SAMPLE_FPS,
    Clip,
    clips,
    moving,
    styled,
    true_flow,
    unchanged,
)

STYLES = ("a watercolour", "a pencil sketch", "van gogh")
LAGS = (1, 2, 3)
_SETTLED = 8  # frames before which a memory is still filling
_ROUNDS = 5  # over the same frames, for a figure that one accident does not move
_SMALLEST = 0.02  # share of a picture that a figure must at least be taken over


def main() -> None:
    """Measure, print, save."""
    arguments = _arguments()
    cv2.setNumThreads(1)
    torch.set_num_threads(arguments.threads)
    results: dict[str, Any] = {"side": arguments.side, "frames": arguments.frames, "steadiness": arguments.steadiness}
    if not arguments.only or arguments.only == "quality":
        results |= quality(arguments)
    if not arguments.only or arguments.only == "delay":
        results["cost_ms_at_512"] = cost(512)
        results["delay"] = delay(arguments.seconds)
        print(results["cost_ms_at_512"], results["delay"], sep="\n")  # noqa: T201 - what a benchmark is for
    if arguments.only == "bank":
        results |= bank(arguments)
    print(save("steady" + (f"-{arguments.only}" if arguments.only else ""), results))  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.steady", description=__doc__)
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/video"), help="folder of .mp4 clips")
    parser.add_argument("--frames", type=int, default=24, help="of each clip")
    parser.add_argument("--side", type=int, default=256, help="of the picture in pixels")
    parser.add_argument("--styles", nargs="+", default=STYLES, help="prompts")
    parser.add_argument("--steadiness", type=float, default=0.9, help="0..1")
    parser.add_argument("--seconds", type=float, default=8, help="how long the delay is measured")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--out", type=Path, help="folder for clips side by side")
    parser.add_argument("--steps", type=int, default=1, help="of the pictures for the feature bank")
    parser.add_argument("--only", choices=("quality", "delay", "bank"), help="one part of it")
    return parser.parse_args()


# -- quality ----------------------------------------------------------------------------------------------------------


def quality(arguments: argparse.Namespace) -> dict[str, Any]:
    """Steadiness and reprojection for every clip and style, and their means over all."""
    model = load_model("embedded")
    steadiness, reprojection, flow = [], [], {}
    for clip in clips(arguments.clips, arguments.frames, arguments.side):
        track = Track()  # each motion is measured once for all styles
        ways = motions(clip, track)
        if clip.name == SAMPLE:
            flow = flow_error(clip, track, ways)
        for style in arguments.styles:
            off = styled(model, style, clip.frames)
            on = steady(clip.frames, off, arguments.steadiness)
            about = {"clip": clip.name, "style": style}
            steadiness.append(about | steadiness_of(clip.frames, ways, off, on))
            carried = carried_pictures(clip.frames, off, track)
            reprojection += [about | one for one in reprojection_of(clip, off, carried)]
            if arguments.out:
                write_clips(arguments.out, f"{clip.name}-{style.split()[-1]}", clip.frames, off, on, carried)
            print(steadiness[-1], *reprojection[-len(LAGS) :], sep="\n", flush=True)  # noqa: T201
    summary = {
        "warping_error_ratio": _mean(steadiness, "warping_ratio"),
        "still_background_ratio": _mean(steadiness, "background_ratio"),
        "sharpness_ratio": _mean(steadiness, "sharpness_ratio"),
        "closer_than_repeating": {
            str(lag): _mean([one for one in reprojection if one["lag"] == lag], "closer") for lag in LAGS
        },
        "flow_on_the_sample": flow,
    }
    print(summary)  # noqa: T201
    return {"summary": summary, "steadiness_of": steadiness, "reprojection_of": reprojection}


def bank(arguments: argparse.Namespace) -> dict[str, Any]:
    """The feature bank at full strength, today's steadiness, and both, against neither, for every clip and style."""
    model = load_model("embedded")
    rows: list[dict[str, Any]] = []
    for clip in clips(arguments.clips, arguments.frames, arguments.side):
        ways = motions(clip, Track())
        for style in arguments.styles:
            off, banked = (
                styled(model, style, clip.frames, steps=arguments.steps, feature_bank=strength)
                for strength in (0.0, 1.0)
            )
            tried = {
                "bank": banked,
                "steadiness": steady(clip.frames, off, arguments.steadiness),
                "both": steady(clip.frames, banked, arguments.steadiness),
            }
            for name, pictures in tried.items():
                about = {"clip": clip.name, "style": style, "steps": arguments.steps, "with": name}
                rows.append(about | steadiness_of(clip.frames, ways, off, pictures))
                print(rows[-1], flush=True)  # noqa: T201
    ratios = ("warping_ratio", "sharpness_ratio")
    summary = {
        name: {ratio: _mean([row for row in rows if row["with"] == name], ratio) for ratio in ratios}
        for name in ("bank", "steadiness", "both")
    }
    print(summary)  # noqa: T201
    return {"summary": summary, "bank_of": rows}


def steady(frames: Sequence[Frame], pictures: Sequence[np.ndarray], amount: float) -> list[np.ndarray]:
    """The pictures made steady."""
    steadier, settings = Steadier(Track()), Settings(steadiness=amount)
    return [steadier(pixels, frame, settings) for pixels, frame in zip(pictures, frames, strict=True)]


Way = tuple[np.ndarray, np.ndarray]  # flow (side, side, 2) in pixels, backward; where it is to be trusted, bool


def motions(clip: Clip, track: Track) -> list[Way | None]:
    """The motion to each frame from the one before, at full size; on the sample the true one. None: none, or a cut."""
    scene = Scene() if clip.name == SAMPLE else None
    return [None] + [
        _true(scene, older, newer) if scene is not None else _measured(track, older, newer)
        for older, newer in pairwise(clip.frames)
    ]


def _true(scene: Scene, older: Frame, newer: Frame) -> Way:
    return true_flow(scene, older.index / SAMPLE_FPS, newer.index / SAMPLE_FPS, newer.pixels.shape[0])


def _measured(track: Track, older: Frame, newer: Frame) -> Way | None:
    side, motion = newer.pixels.shape[0], track.between(older, newer)
    if motion is None:
        return None
    scale = side / motion.flow.shape[0]
    flow = cv2.resize(motion.flow, (side, side), interpolation=cv2.INTER_LINEAR) * np.float32(scale)
    return flow, cv2.resize(motion.confidence, (side, side), interpolation=cv2.INTER_LINEAR) > 0.8


def steadiness_of(
    frames: Sequence[Frame], ways: Sequence[Way | None], off: Sequence[np.ndarray], on: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Without and with: warping error, change in still background (grey levels), and the ratio of sharpness."""
    found: dict[str, list[float]] = {name: [] for name in ("w0", "w1", "b0", "b1", "s0", "s1")}
    for place in range(_SETTLED, len(frames)):
        still, way = unchanged(frames[place - 1], frames[place]), ways[place]
        for key, pictures in (("0", off), ("1", on)):
            before, now = pictures[place - 1].astype(np.float32), pictures[place].astype(np.float32)
            if way is not None:
                found["w" + key].append(float(np.abs(_warped(before, way[0]) - now)[way[1]].mean()))
            if still.mean() > _SMALLEST:
                found["b" + key].append(float(np.abs(before - now)[still].mean()))
            found["s" + key].append(sharpness(pictures[place]))
    mean = {key: float(np.mean(values)) if values else float("nan") for key, values in found.items()}
    return {
        "warping_error": [_short(mean["w0"]), _short(mean["w1"])],
        "warping_ratio": _short(mean["w1"] / max(mean["w0"], 1e-6)),
        "background_change": [_short(mean["b0"]), _short(mean["b1"])],
        "background_ratio": _short(mean["b1"] / max(mean["b0"], 1e-6)) if found["b0"] else None,
        "sharpness_ratio": _short(mean["s1"] / mean["s0"]),
    }


def _warped(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float32)
    return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of the grey picture."""
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F).var())


Carried = dict[tuple[int, int], np.ndarray]  # by (place of the styled picture, lag)


def carried_pictures(frames: Sequence[Frame], pictures: Sequence[np.ndarray], track: Track) -> Carried:
    """Every styled picture carried 1, 2 and 3 frames on, as in a session; the picture itself where it is not."""
    found: Carried = {}
    for place, pixels in enumerate(pictures):
        reprojector = Reprojector(track)
        reprojector.styled(pixels, frames[place], "on")
        for lag in LAGS:
            if place + lag < len(frames):
                seen = reprojector.seen(frames[place + lag], "on")
                found[place, lag] = pixels if seen is None else seen.pixels
    return found


def reprojection_of(clip: Clip, pictures: Sequence[np.ndarray], carried: Carried) -> list[dict[str, Any]]:
    """Error (grey levels, moving content) against the model's own picture, repeated and carried, for every lag."""
    found = []
    for lag in LAGS:
        repeated_error, carried_error = [], []
        for place in range(len(pictures) - lag):
            where = moving(clip.frames[place], clip.frames[place + lag])
            if where.mean() < _SMALLEST:
                continue
            own = pictures[place + lag].astype(np.float32)
            repeated_error.append(float(np.abs(pictures[place] - own)[where].mean()))
            carried_error.append(float(np.abs(carried[place, lag] - own)[where].mean()))
        if repeated_error:
            repeat, carry_ = float(np.mean(repeated_error)), float(np.mean(carried_error))
            errors = {"repeated": _short(repeat), "carried": _short(carry_), "closer": _short(1 - carry_ / repeat)}
            found.append({"lag": lag, "pictures": len(repeated_error)} | errors)
    return found


def flow_error(clip: Clip, track: Track, ways: Sequence[Way | None]) -> dict[str, Any]:
    """Measured against true flow between frames of the sample, in pixels of the picture, where the truth moves."""
    errors, lengths = [], []
    for (older, newer), way in zip(pairwise(clip.frames), ways[1:], strict=True):
        measured = _measured(track, older, newer)
        if measured is None or way is None:
            continue
        length = np.hypot(way[0][..., 0], way[0][..., 1])
        where = way[1] & (length > 0.3)
        if where.mean() > _SMALLEST:
            errors.append(float(np.hypot(*(measured[0] - way[0]).transpose(2, 0, 1))[where].mean()))
            lengths.append(float(length[where].mean()))
    return {"mean_length_px": _short(float(np.mean(lengths))), "mean_error_px": _short(float(np.mean(errors)))}


def write_clips(
    folder: Path, name: str, frames: Sequence[Frame], off: Sequence[np.ndarray], on: Sequence[np.ndarray], way: Carried
) -> None:
    """``NAME-steady.mp4``: input, off, on. ``NAME-lag3.mp4``: the model's picture, that of 3 frames ago, it carried."""
    folder.mkdir(parents=True, exist_ok=True)
    late = max(LAGS)
    rows = {
        "steady": [np.hstack([f.pixels, a, b]) for f, a, b in zip(frames, off, on, strict=True)],
        f"lag{late}": [np.hstack([off[p + late], off[p], way[p, late]]) for p in range(len(off) - late)],
    }
    for kind, pictures in rows.items():
        sink = VideoSink(folder / f"{name}-{kind}.mp4", fps=12)
        sink.open()
        for index, pixels in enumerate(pictures):
            sink.write(Frame(index, index / 12, pixels, media_time=index / 12))
        sink.close()


# -- time -------------------------------------------------------------------------------------------------------------


def cost(side: int) -> dict[str, float]:
    """Median and 95th percentile milliseconds of one core of a carried and of a steady picture of moving content."""
    frames = _walk(side, 40)
    picture = frames[0].pixels[:, ::-1].copy()
    settings = Settings(steadiness=0.9)
    carried: list[float] = []
    steadied: list[float] = []
    for _ in range(_ROUNDS):
        reprojector = Reprojector(Track())
        reprojector.styled(picture, frames[0], "on")
        for frame in frames[1:]:
            carried.append(_milliseconds(lambda frame=frame, one=reprojector: one.seen(frame, "on")))
            if frame.index % 3 == 0:
                reprojector.styled(picture, frame, "on")
    for _ in range(_ROUNDS):
        steadier = Steadier(Track())
        steadier(picture, frames[0], settings)
        for frame in frames[1:]:
            steadied.append(_milliseconds(lambda frame=frame, one=steadier: one(picture, frame, settings)))
    carried, steadied = carried[len(frames) :], steadied[len(frames) :]  # the first round warms up
    return {
        "carried_p50": _short(float(np.percentile(carried, 50))),
        "carried_p95": _short(float(np.percentile(carried, 95))),
        "steady_p50": _short(float(np.percentile(steadied, 50))),
        "steady_p95": _short(float(np.percentile(steadied, 95))),
    }


def _milliseconds(call: Callable[[], object]) -> float:
    start = time.thread_time()  # of this core's work; who else uses the machine does not count
    call()
    return 1000 * (time.thread_time() - start)


@lru_cache
def _walk(side: int, count: int) -> list[Frame]:
    """Camera frames that pan over the sample's room while its character moves."""
    scene, frames = Scene(), []
    for index in range(count):
        drawn = cv2.resize(scene.draw(1.3 + index / 30), (side * 4 // 3, side), interpolation=cv2.INTER_AREA)
        pixels = np.ascontiguousarray(drawn[:, 2 * index : 2 * index + side])
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / 255)
        frames.append(Frame(index, float(index), pixels, tensor))
    return frames


@dataclass
class _Camera:
    """Pictures at an exact rate, over and over; live."""

    frames: list[Frame]
    fps: float | None = 30.0
    live: bool = True
    name: str = "camera"
    frame_count: int | None = None
    lost: str | None = None
    _closing: threading.Event = field(default_factory=threading.Event)
    _index: int = 0
    _due: float = 0.0

    def open(self) -> None:
        self._due = time.monotonic()

    def read(self) -> Frame | None:
        self._due += 1 / (self.fps or 30)
        self._closing.wait(max(0.0, self._due - time.monotonic()))
        index, self._index = self._index, self._index + 1
        place = index % (2 * len(self.frames) - 2)  # there and back
        frame = self.frames[min(place, 2 * len(self.frames) - 2 - place)]
        return None if self._closing.is_set() else Frame(index, time.monotonic(), frame.pixels)

    def close(self) -> None:
        self._closing.set()


def delay(seconds: float, side: int = 512) -> dict[str, Any]:
    """From capture to shown with a camera of 30 and a model of 10 frames a second, in a whole session, off and on."""
    frames, found = _walk(side, 40), {}
    facts = ModelFacts(name="stub", device="cpu", dtype="float32", acceleration="eager", default_size=side)
    settings = Settings(width=side, height=side)
    for mode in ("off", "auto"):
        shown: list[float] = []
        sink = CallbackSink(lambda frame, shown=shown: shown.append(time.monotonic() - frame.captured_at))
        camera = _Camera(frames)
        with Session(
            camera,
            replace(settings, reprojection=mode),
            [sink],
            loader=lambda *_: Loaded(FakeEngine(script=lambda _: time.sleep(0.1)), facts),
        ) as session:
            time.sleep(seconds)
            counts = session.metrics()
        period = 1 / (camera.fps or 30)
        found[mode] = {
            "fps_real": _short(counts.fps_out),
            "fps_reprojected": _short(counts.fps_reprojected),
            "p50_camera_frames": _short(float(np.percentile(shown, 50)) / period),
            "p95_camera_frames": _short(float(np.percentile(shown, 95)) / period),
        }
    return found


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return _short(float(np.mean([row[key] for row in rows if row[key] is not None])))


def _short(value: float) -> float:
    return round(value, 3)


if __name__ == "__main__":
    main()
