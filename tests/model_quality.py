"""Measures the embedded model on photos that training never saw.

    python -m tests.model_quality --photos DIR --data DIR --report quality.json [--run RUN] [--count N]

The teachers and the list of styles are the training package's, the pictures come out of the engine as the app runs it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.logging import RichHandler
from torch import Tensor

from assets.training.perceptual import TinyDarknet, feature_distance
from assets.training.photos import Photo, centre_square, clip_frames, find_photos, load_photo, split_photos
from assets.training.prompts import STYLE_IDS
from assets.training.store import PictureStore
from assets.training.teachers import Teachers
from assets.training.tints import tint
from assets.training.vocabulary import STYLES, TINTS
from pipeline import Stream, StreamConfig, load_model
from pipeline.device import DTYPES
from pipeline.models import EMBEDDED_PATH, Model
from tests.pipeline.pictures import burnt
from tests.style_classifier import StyleClassifier, describe, describe_pixels

log = logging.getLogger(__name__)

STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
CLIP = Path("video") / "talking_woman_office.mp4"
STILL = 2.0 / 255  # a pixel is still where the clip's own mean change between frames is below this
TAPS = (2, 6, 10)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


def psnr(ours: Tensor, theirs: Tensor) -> float:
    """Mean over pictures, in dB, of (B, 3, H, W) in 0..1."""
    error = (ours - theirs).square().mean((1, 2, 3)).clamp_min(1e-10)
    return float((-10 * error.log10()).mean())


@dataclass
class Bench:
    """The model under test, its judges and its held-out photos."""

    model: Model
    judge: TinyDarknet
    photos: np.ndarray  # (N, 256, 256, 3) uint8
    drawn: dict[str, np.ndarray]  # the teachers' pictures of them, a style each
    data: Path

    def __post_init__(self) -> None:
        self.frames = to_tensor(self.photos)

    @torch.inference_mode()
    def coded(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) through the autoencoder alone."""
        coder, made = self.model.autoencoder, []
        for part in pictures.split(4):
            latents = coder.encode(part.to(self.model.device, self.model.dtype))
            made.append(coder.decode(latents.to(self.model.dtype)).cpu())
        return torch.cat(made)

    def render(self, frames: Tensor, **settings: Any) -> Tensor:
        """(B, 3, H, W) through the engine, each frame as the first of a stream, under its defaults and these."""
        stream = Stream(self.model, StreamConfig(**{**self.model.defaults, **settings}))
        pictures = []
        for frame in frames:
            stream.reset()
            pictures.append(stream(frame).image.cpu())
        return torch.cat(pictures)

    @torch.no_grad()
    def distance(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """(B,) perceptual distances."""
        pairs = zip(ours.split(8), theirs.split(8), strict=True)
        return torch.cat([feature_distance(self._judged(a), self._judged(b)) for a, b in pairs])

    def _judged(self, pictures: Tensor) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return self.judge(pictures)


@dataclass(frozen=True)
class Judges:
    """Who names a picture's style: by the features of the training's loss, and by colours and edges."""

    features: StyleClassifier
    pixels: StyleClassifier


def autoencoder_and_identity(bench: Bench) -> dict[str, Any]:
    """PSNR of the autoencoder alone, of "a photo", of an empty prompt."""
    alone = psnr(bench.coded(bench.frames), bench.frames)
    identity = {name: psnr(bench.render(bench.frames, prompt=prompt), bench.frames)
                for name, prompt in (("a photo", "a photo"), ("empty prompt", ""))}  # fmt: skip
    styled, floor = [], {}
    for style in STYLE_IDS[1:]:
        pictures = to_tensor(bench.drawn[style][:32])
        coded = bench.coded(pictures)
        styled.append(psnr(coded, pictures))
        photos = bench.distance(bench.frames[:32], pictures).mean()
        floor[style] = float(bench.distance(coded, pictures).mean() / photos)
    return {
        "autoencoder_db": alone,
        "autoencoder_styled_db": float(np.mean(styled)),
        "identity_db": identity,
        "autoencoder_distance_ratio": floor,  # no UNet can come nearer to the teachers than this
        "autoencoder_distance_ratio_mean": float(np.mean(list(floor.values()))),
    }


def recognisable_and_faithful(bench: Bench, judges: Judges, steps: int) -> dict[str, Any]:
    """Share of outputs whose style is named right, by each judge, and the distance to the teacher over the photo's."""
    right: dict[str, float] = {}
    by_pixels: dict[str, float] = {}
    ratio: dict[str, float] = {}
    for index, style in enumerate(STYLE_IDS):
        made = bench.render(bench.frames, prompt=STYLES[style].prompt, steps=steps)
        right[style] = float((judges.features(made) == index).float().mean())
        by_pixels[style] = float((judges.pixels(made) == index).float().mean())
        if style != "photo":
            teacher = to_tensor(bench.drawn[style])
            near = bench.distance(made, teacher).mean()
            ratio[style] = float(near / bench.distance(bench.frames, teacher).mean())
    return {
        "recognised": right,
        "recognised_mean": float(np.mean(list(right.values()))),
        "recognised_by_pixels": by_pixels,
        "recognised_by_pixels_mean": float(np.mean(list(by_pixels.values()))),
        "teacher_distance_ratio": ratio,
        "teacher_distance_ratio_mean": float(np.mean(list(ratio.values()))),
    }


def paraphrases(bench: Bench, classify: StyleClassifier, count: int = 8) -> dict[str, Any]:
    """Share found right, over styles' and tints' wordings that were trained and ones that were not."""
    frames = bench.frames[:count]
    found: dict[str, list[float]] = {"trained": [], "held_out": []}
    wrong: list[str] = []
    for index, style in enumerate(STYLE_IDS):
        for kind, texts in (("trained", STYLES[style].trained[1:4]), ("held_out", STYLES[style].held_out)):
            for text in texts:
                named = classify(bench.render(frames, prompt=text))
                found[kind].append(float((named == index).float().mean()))
                if found[kind][-1] < 0.5:
                    wrong.append(text)
    for hue in list(TINTS)[1:]:
        for kind, texts in (("trained", TINTS[hue].trained[:3]), ("held_out", TINTS[hue].held_out)):
            for text in texts:
                found[kind].append(_tint_found(bench, bench.render(frames, prompt=text), hue))
                if found[kind][-1] < 0.5:
                    wrong.append(text)
    return {**{kind: float(np.mean(values)) for kind, values in found.items()}, "wrong": wrong}


def _tint_found(bench: Bench, made: Tensor, wanted: str) -> float:
    """Share of pictures nearest, in mean absolute difference, to their photo in the tint wanted."""
    right = 0
    for picture, photo in zip(made, bench.photos, strict=False):
        near = {hue: float((picture - to_tensor(tint(hue, photo)[None])[0]).abs().mean()) for hue in TINTS}
        right += min(near, key=near.__getitem__) == wanted
    return right / len(made)


def steady(bench: Bench) -> dict[str, float]:
    """Change between successive outputs over change between successive inputs, where the clip's background is still."""
    path = bench.data / CLIP
    inputs = to_tensor(np.stack([centre_square(frame) for frame in clip_frames(path, 40)]))
    change = (inputs[1:] - inputs[:-1]).abs().mean((0, 1))
    still = torch.nn.functional.avg_pool2d(change[None, None], 9, 1, 4)[0, 0] < STILL
    own = float((inputs[1:] - inputs[:-1]).abs().mean(1)[:, still].mean())
    ratios: dict[str, float] = {"still_share": float(still.float().mean()), "input_change": own}
    for style in STYLE_IDS:
        stream = Stream(bench.model, StreamConfig(prompt=STYLES[style].prompt))
        made = torch.cat([stream(frame).image.cpu() for frame in inputs])
        ratios[style] = float((made[1:] - made[:-1]).abs().mean(1)[:, still].mean()) / own
    return ratios


def strength(bench: Bench, count: int = 4) -> dict[str, Any]:
    """Mean absolute distance to the input along STRENGTHS, and in how many styles it only grows."""
    frames, rows = bench.frames[:count], {}
    for style in STYLE_IDS[1:]:
        rows[style] = [
            float((bench.render(frames, prompt=STYLES[style].prompt, strength=s) - frames).abs().mean())
            for s in STRENGTHS
        ]
    grows = [style for style, row in rows.items() if all(a < b for a, b in pairwise(row))]
    return {"distance": rows, "monotone": grows, "monotone_share": len(grows) / len(rows)}


def guided(bench: Bench, count: int = 6) -> dict[str, Any]:
    """A negative prompt's effect, and how much of a picture guidance drives out of range."""
    frames = bench.frames[:count]
    away: dict[str, float] = {}
    shares: dict[str, float] = {}
    for style in STYLE_IDS[1:]:
        prompt, teacher = STYLES[style].prompt, to_tensor(bench.drawn[style][:count])
        settings = {"prompt": "a photo", "guidance": "full", "guidance_scale": 1.5}
        plain = bench.render(frames, **settings)
        negative = bench.render(frames, negative_prompt=prompt, **settings)
        away[style] = float((negative - teacher).abs().mean() - (plain - teacher).abs().mean())
        unguided = bench.render(frames, prompt=prompt)
        shares[style] = max(
            burnt(bench.render(frames, prompt=prompt, guidance="full", guidance_scale=scale), unguided)
            for scale in (1.5, 2.0)
        )
    moved = [style for style, value in away.items() if value > 0]
    return {"away": away, "moved_away_share": len(moved) / len(away), "burnt": shares,
            "worst_burnt": max(shares.values())}  # fmt: skip


def disk_and_time(bench: Bench) -> dict[str, Any]:
    """Bytes of the model folder, parameters, and milliseconds a stage here."""
    stream = Stream(bench.model, StreamConfig(prompt="a watercolour"))
    began = time.perf_counter()
    for frame in bench.frames[:20]:
        stream(frame)
    size = sum(path.stat().st_size for path in EMBEDDED_PATH.rglob("*") if path.is_file())
    return {
        "megabytes": size / 1e6,
        "frame_ms": 1000 * (time.perf_counter() - began) / min(20, len(bench.frames)),
        "stages_ms": stream.stages_ms(),
        "device": str(bench.model.device),
        "dtype": str(bench.model.dtype),
    }


Pictures = dict[str, np.ndarray]  # style -> (N, 256, 256, 3) uint8; "photo" are the photos themselves


def gather(options: argparse.Namespace) -> tuple[Pictures, Pictures]:
    """Teachers' pictures of held-out and of training photos: from a prepared run, or drawn here."""
    held, train = _prepared(options) if options.run else _drawn(options)
    if len(held["photo"]) < 10:
        raise ValueError(f"only {len(held['photo'])} held-out photos: give a folder with at least 200 pictures")
    return held, train


def _prepared(options: argparse.Namespace) -> tuple[Pictures, Pictures]:
    store = PictureStore(options.run)
    ready = np.logical_and.reduce([store.done(style) for style in STYLE_IDS]).nonzero()[0]
    held = ready[ready >= store.train_count][: options.count]
    train = ready[ready < store.train_count][: options.train]
    return (
        {style: store.pictures(style)[held] for style in STYLE_IDS},
        {style: store.pictures(style)[train] for style in STYLE_IDS},
    )


def _drawn(options: argparse.Namespace) -> tuple[Pictures, Pictures]:
    split, teachers = split_photos(find_photos(options.photos)), Teachers()

    def draw(part: list[Photo]) -> Pictures:
        photos = [load_photo(photo.path) for photo in part]
        return {style: np.stack([teachers.draw(style, photo) for photo in photos]) for style in STYLE_IDS}

    log.info("the teachers draw")
    return draw(split.held_out[: options.count]), draw(split.train[: options.train])


def learn_styles(bench: Bench, train: Pictures) -> Judges:
    """Judges that have seen teachers' pictures of training photos, half of them through the autoencoder as well."""
    classes = []
    for style in STYLE_IDS:
        pictures = to_tensor(train[style])
        classes.append(torch.cat([pictures, bench.coded(pictures[::2])]))
    return Judges(StyleClassifier(partial(describe, bench.judge), classes), StyleClassifier(describe_pixels, classes))


def judge_judges(bench: Bench, judges: Judges, held: Pictures, count: int = 50) -> dict[str, float]:
    """Share of the teachers' own pictures that each judge names right, as drawn and through the autoencoder."""
    names = {"classifier": judges.features, "pixel_classifier": judges.pixels}
    right: dict[str, list[float]] = {f"{name}_on_{what}teachers": [] for name in names for what in ("", "coded_")}
    for index, style in enumerate(STYLE_IDS):
        drawn = to_tensor(held[style][:count])
        for what, pictures in (("", drawn), ("coded_", bench.coded(drawn))):
            for name, judge in names.items():
                right[f"{name}_on_{what}teachers"].append(float((judge(pictures) == index).float().mean()))
    return {name: float(np.mean(shares)) for name, shares in right.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order; each part is logged as it comes."""
    held, train = gather(options)
    judge = TinyDarknet(options.data / "weights" / "tiny_darknet.safetensors", TAPS)
    model = load_model("embedded", device=options.device, dtype=options.dtype)
    bench = Bench(model, judge, held["photo"], held, options.data)
    report: dict[str, Any] = {"held_out": len(bench.photos), "train": len(train["photo"])}
    judges = learn_styles(bench, train)
    report |= judge_judges(bench, judges, held)
    log.info("judge: %s", json.dumps(report))
    parts: dict[str, Callable[[], Any]] = {
        "disk_and_time": lambda: disk_and_time(bench),
        "pictures": lambda: autoencoder_and_identity(bench),
        "one_step": lambda: recognisable_and_faithful(bench, judges, 1),
        "four_steps": lambda: recognisable_and_faithful(bench, judges, 4),
        "steady": lambda: steady(bench),
        "strength": lambda: strength(bench),
        "paraphrases": lambda: paraphrases(bench, judges.features),
        "guidance": lambda: guided(bench),
    }
    for name, part in parts.items():
        report[name] = part()
        log.info("%s: %s", name, json.dumps(report[name]))
        if options.report:  # as it grows: the rest may be cut short
            options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def main(arguments: list[str]) -> int:
    """Run the command line; exit code 2 on misuse."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    parser = argparse.ArgumentParser(
        prog="python -m tests.model_quality",
        description="Measures the embedded model on photos that training never saw.",
    )
    parser.add_argument("--photos", type=Path, required=True, help="the folder of photos that training was given")
    parser.add_argument("--data", type=Path, required=True, help="folder with weights/ and video/")
    parser.add_argument("--run", type=Path, help="a prepared training run: take the teachers' pictures from there")
    parser.add_argument("--report", type=Path, help="write the figures here as JSON")
    parser.add_argument("--count", type=int, default=200, help="held-out photos at most (default: %(default)s)")
    parser.add_argument(
        "--train", type=int, default=160, help="training photos for the classifier (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", *DTYPES), help="default: as the app does it")
    options = parser.parse_args(arguments)
    for path in (options.photos, options.data / "weights" / "tiny_darknet.safetensors", options.data / CLIP):
        if not path.exists():
            parser.exit(2, f"{parser.prog}: {path} is not there\n")
    measure(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
