"""The corpus: paths and names on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.app.media import cards, write_clip
from tests.corpus_case import Case, Ends

CLIP, PICTURE = "clip.mp4", "in.png"
TINY = "TINY"  # in the place of the model's path: what needs pictures is rendered
NOWHERE = ("--model", "nowhere")  # were it loaded, that would be the complaint


def laid_out(files: Mapping[str, str], words: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """Write these files, and give the command line.

    Args:
        files: what each is, by name: clip, picture, shade, text, folder, pipe; or ``-> NAME`` and ``= NAME`` for a
            symbolic and a hard link.
        words: of the command line.
        folder: in which it is given.
    """
    for name, what in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "clip":
            write_clip(folder / "made.mp4", cards(2, 64, 48)).rename(path)
        elif what == "picture":
            Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(path, "PNG")
        elif what == "folder":
            path.mkdir()
        elif what == "pipe":
            os.mkfifo(path)
        elif what.startswith("-> "):
            path.symlink_to(what[3:])
        elif what.startswith("= "):
            path.hardlink_to(folder / what[2:])
        else:
            path.write_text(what, encoding="utf-8")
    return words


def command(name: str, files: Mapping[str, str], words: tuple[str, ...], right: Ends) -> Case:
    """A command line in a folder with these files."""
    make: Callable[[Path], tuple[str, ...]] = partial(laid_out, files, words)
    return Case("path", name, make, right)


def _refused() -> Iterator[Case]:
    clip, picture = {CLIP: "clip"}, {PICTURE: "picture"}

    def no(name: str, files: Mapping[str, str], words: str, *given: str) -> Case:
        return command(name, files, ("render", *given, *NOWHERE), Ends(2, words))

    yield no("output is the input", clip, "is also the input", CLIP, CLIP)
    yield no("output is the input, the long way", {**clip, "a": "folder"}, "is also the input", CLIP, f"a/../{CLIP}")
    yield no("input in the home, output in full", clip, "is also the input", f"~/{CLIP}", f"./{CLIP}")
    yield no("output in the home", clip, "is also the input", CLIP, f"~/{CLIP}")
    yield no("report is the input", clip, "is also the input; give the report", CLIP, "o.mp4", "--report", CLIP)
    yield no("report is the output", clip, "is also the output; give the report", CLIP, "o.mp4", "--report", "o.mp4")
    lora = {**clip, "l.safetensors": "weights"}
    given = ("o.mp4", "--report", "l.safetensors", "--lora", "l.safetensors:0.5")
    yield no("report is a LoRA", lora, "is also a LoRA", CLIP, *given)
    model = {**clip, "m/model_index.json": "{}"}
    words = ("render", CLIP, "o.mp4", "--model", "m", "--report", "m/model_index.json")
    yield command("report is part of the model", model, words, Ends(2, "is also the model"))
    yield no(
        "a report among the pictures",
        {**picture, "o": "folder"},
        "may also be a picture",
        PICTURE,
        "o/",
        "--report",
        "o/frame_000001.png",
    )
    if sys.platform != "win32":
        links = {**clip, "hard.mp4": f"= {CLIP}", "soft.mp4": f"-> {CLIP}"}
        yield no("output is the input, by a hard link", links, "is also the input", CLIP, "hard.mp4")
        yield no("output is the input, by a link", links, "is also the input", CLIP, "soft.mp4")
        yield no("report is the input, by a hard link", links, "also the input", CLIP, "o.mp4", "--report", "hard.mp4")
        yield no("output is a pipe", {**clip, "o.mp4": "pipe"}, "no ordinary file", CLIP, "o.mp4")
        yield no("report is a pipe", {**clip, "r": "pipe"}, "no ordinary file", CLIP, "o.mp4", "--report", "r")
        yield no("input is a pipe", {"p.mp4": "pipe"}, "no ordinary file", "p.mp4", "o.mp4")
        linked = {"f/1.png": "picture", "o/frame_000001.png": "= f/1.png"}
        yield no("a picture of the output is one of the input", linked, "is also the input", "f/", "o/")
    frames = {"f/frame_000001.png": "picture"}
    yield no("one frame of a folder into that folder", frames, "is also the input", "f/frame_000001.png", "f/")
    yield no("a folder into itself", frames, "is also the input", "f", "f")
    yield no("output is a folder", {**clip, "o": "folder"}, r"is a folder; write o/", CLIP, "o")
    yield no("output in no folder", clip, "there is no folder", CLIP, "no/o.mp4")
    yield no("output of no kind", clip, "is not a kind of video", CLIP, "o.txt")
    yield no("one picture of many", clip, "is one picture, .* is many", CLIP, "o.png")
    yield no("a kind of picture that is not written", picture, "not a kind of picture", PICTURE, "o.bmp")
    yield no("an input whose name is too long", {}, "name too long", "x" * 300 + ".mp4", "o.mp4")
    yield no("an output whose name is too long", clip, "name too long", CLIP, "x" * 300 + ".mp4")
    yield no("an input that is missing", {}, "No such file", "12:30.mp4", "o.mp4")
    yield no("a canvas that nobody draws on", {}, "vitrail --source canvas", "canvas", "o.mp4")
    yield no("a camera of no size", {}, "is not understood; write camera:1@1280x720", "camera:1@big", "o.mp4")
    yield command("neither a command nor a file", {}, ("dance.mp4",), Ends(2, "is neither a command .* nor a file"))
    there = Ends(2, "there is no display")
    if sys.platform == "linux":
        yield command("a file to open the window on", clip, (CLIP,), there)
        yield command("a file called as a command is", {"demo": "text"}, ("./demo",), there)


def _rendered() -> Iterator[Case]:
    def yes(name: str, files: Mapping[str, str], output: str, *given: str) -> Case:
        words = ("render", *given, output, "--model", TINY, "--prompt", "ink", "--height", "64", "--device", "cpu")
        return command(name, files, words, Ends(0, "frames of", (output.removeprefix("./").removeprefix("~/"),)))

    yield yes("a colon in the input", {"12:30.mp4": "clip"}, "o.mp4", "12:30.mp4")
    yield yes("a colon in the output and its sound", {CLIP: "clip"}, "12:31.mp4", CLIP)
    yield yes("a file whose name is a camera's", {"camera:front.png": "picture"}, "o.png", "camera:front.png")
    yield yes("a file called canvas", {"canvas": "picture"}, "o.png", "./canvas")
    yield yes("a name of every kind", {"😀 fête 100%d.png": "picture"}, "fête %s.png", "😀 fête 100%d.png")
    yield yes("a name without UTF-8", {"caf\udce9.png": "picture"}, "d\udce9j\udce0.png", "caf\udce9.png")
    yield yes("a picture that is called a film", {"in.mp4": "picture"}, "o.png", "in.mp4")
    yield yes("an output in the home", {PICTURE: "picture"}, "~/o.png", PICTURE)


CASES: tuple[Case, ...] = (*_refused(), *(case for case in _rendered() if sys.platform != "win32"))
