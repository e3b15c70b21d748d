"""``python -m assets.training PART``: trains the embedded model, whole (``all``) or in parts."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from rich.logging import RichHandler

TRAINED = ("autoencoder", "text", "unet", "decoder")
PARTS = ("prepare", *TRAINED, "export")
WEIGHTS = Path("weights") / "tiny_darknet.safetensors"
NEEDED = (
    WEIGHTS,
    Path("tokenizer") / "vocab.json",
    Path("tokenizer") / "merges.txt",
)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; argparse exits with code 2 and one line on misuse."""
    parser = argparse.ArgumentParser(prog="python -m assets.training", description=__doc__)
    parser.add_argument(
        "part",
        choices=[*PARTS, "all", "frames", "adopt", "card"],
        help="what to do; `frames` cuts clips into pictures, `adopt` makes a run of the exported --model, "
        "to train it on, `card` puts the figures of a report into the model's card",
    )
    parser.add_argument("inputs", nargs="*", type=Path, help="frames only: clips, or archives with animated webp")
    parser.add_argument("--report", type=Path, help="card only: what `python -m tests.model_quality --report` wrote")
    parser.add_argument("--photos", type=Path, help="folder of photos, in sub-folders or not")
    parser.add_argument("--data", type=Path, help="folder with tokenizer/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="the run folder (default: %(default)s)")
    shipped = Path("assets/models/vitrail-mini")
    parser.add_argument("--model", type=Path, default=shipped, help="export to, or adopt (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="stop each part after this long; then --resume"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=1300, help="training photos at most (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="optimiser steps of this part, instead of its own number")
    parser.add_argument("--untrained", action="store_true", help="export only: a random UNet if there is none yet")
    options = parser.parse_args(arguments)
    problem = _problem(options)
    if problem:
        parser.exit(2, f"{parser.prog}: {problem}\n")
    return options


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the command line, in one line."""
    part = options.part
    if options.minutes <= 0 or options.most < 1 or (options.steps is not None and options.steps < 1):
        return "--minutes, --most and --steps must be positive"
    if part == "frames":
        missing = [path for path in options.inputs if not path.is_file()]
        if not options.inputs or missing:
            return f"no such clip: {missing[0]}" if missing else "give the clips to cut"
        return None
    if options.inputs:
        return f"unexpected argument: {options.inputs[0]}"
    if part == "card":
        return None if options.report and options.report.is_file() else "give the report with --report"
    if part in ("prepare", "all") and (options.photos is None or not options.photos.is_dir()):
        return (
            "give a folder of photos with --photos" if options.photos is None else f"no such folder: {options.photos}"
        )
    if part not in ("export", "prepare", "adopt"):
        if options.data is None:
            return "give the folder of tokenizer and weights with --data"
        missing_data = [name for name in NEEDED if not (options.data / name).is_file()]
        if missing_data:
            return f"{options.data} lacks {missing_data[0]}"
    return None


def run_part(part: str, options: argparse.Namespace) -> None:
    """Do one part; imports are here so that a wrong command line is answered at once."""
    out, data, minutes, resume, seed = options.out, options.data, options.minutes, options.resume, options.seed
    steps = {} if options.steps is None else {"steps": options.steps}
    if part in TRAINED and not resume:
        from assets.training.store import is_adopted

        if is_adopted(out):
            raise ValueError(f"{out} goes on from a finished model: add --resume")
    if part == "prepare":
        from assets.training.prepare import prepare

        prepare(options.photos, out, options.most)
    elif part == "autoencoder":
        from assets.training.autoencoder import train_autoencoder

        train_autoencoder(out, data, minutes, resume, seed, **steps)
    elif part == "text":
        from assets.training.text import train_text

        train_text(out, data, minutes, resume, seed, **steps)
    elif part == "unet":
        from assets.training.autoencoder import load_autoencoder
        from assets.training.latents import cache_latents
        from assets.training.unet import train_unet

        cache_latents(out, load_autoencoder(out), seed)
        train_unet(out, data, minutes, resume, seed, **steps)
    elif part == "decoder":
        from assets.training.decoder import train_decoder

        train_decoder(out, data, minutes, resume, seed, **steps)
    elif part == "export":
        from assets.training.export import export

        export(out, options.model, options.untrained)
    elif part == "adopt":
        from assets.training.adopt import adopt

        adopt(options.model, out)
    elif part == "card":
        from assets.training.card import write_figures

        write_figures(options.report, options.model / "README.md")


def main(arguments: list[str]) -> int:
    """Run the command line; the exit code is 0, or 2 if it cannot be done as asked."""
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", datefmt="[%X]", handlers=[RichHandler(show_path=False)]
    )
    options = parse(arguments)
    try:
        if options.part == "frames":
            from assets.training.photos import cut_frames

            cut_frames(options.inputs, options.out, 5)
        for part in PARTS if options.part == "all" else (options.part,):
            if part != "frames":
                run_part(part, options)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"python -m assets.training: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
