"""The whole command line, described. Cheap to import: what a command needs to run is not imported here."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.commands.misuse import Misuse
from app.commands.options import Parser, add_settings
from app.settings import Settings
from app.words import TEXT_FRAMES
from pipeline.config import ACCELERATIONS
from pipeline.setting import described
from pipeline.user_path import expanded, is_address, is_blank

COMMANDS = ("demo", "render", "bench", "doctor")
# The first words of sources that are no files, as ``open_source`` knows them.
SOURCE_WORDS = ("camera", "screen", "window", "canvas", "testcard", "text")


def build_parser() -> Parser:
    """The parser of ``vitrail`` with all its commands."""
    parser = Parser(prog="vitrail", description="Live diffusion for your camera, screen, clips and drawings.")
    parser.add_argument("--version", action="version", version=f"vitrail {_version()}")
    parser.add_argument(
        "--source",
        type=_source,
        metavar="SPEC",
        help="open the app with camera:0, screen:1, window:TITLE, canvas, testcard or a file; a file needs no --source",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="without a window", parser_class=Parser)
    _add_demo(commands)
    _add_render(commands)
    _add_bench(commands)
    words = "say what this machine has, and what to do about what it lacks"
    commands.add_parser("doctor", help=words, description=_sentence(words))
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for. Raises ``Misuse`` where it cannot be understood."""
    try:
        arguments, left = build_parser().parse_known_args(with_source(argv))
        if not left:
            return arguments
        if arguments.command == "render" and arguments.text_to_image and not left[0].startswith("-"):
            raise Misuse("text to image has no IN; give OUT alone, or leave --text-to-image out")
        raise Misuse(f"unrecognized arguments: {' '.join(left)} (see `vitrail --help`)")
    except Misuse as error:
        dashed = next(filter(_may_be_file, argv), None)
        if dashed is None:
            raise
        raise Misuse(f"{error}; if {dashed} is a file, write ./{dashed}") from error


def with_source(argv: Sequence[str]) -> list[str]:
    """``argv`` with what is left unsaid of its source, by ``vitrail CLIP`` and by ``render --text-to-image OUT``.

    A command or a file, and an IN that may be left out, are more than argparse can tell apart.

    Raises:
        Misuse: the first word is neither a command nor a file.
    """
    given = list(argv)
    if given and given[0] not in COMMANDS and not given[0].startswith("-"):
        if not os.path.lexists(expanded(given[0])):
            raise Misuse(_neither(given[0]))
        return ["--source", *given]
    if given[:1] == ["render"] and "--text-to-image" in given:
        given.insert(1, "text")
    return given


def _neither(word: str) -> str:
    """One sentence on a first word that is neither a command nor a file."""
    if word.partition(":")[0] in SOURCE_WORDS:
        return f"{word} is a source; write `vitrail --source {shlex.quote(word)}` to open the window on it"
    if is_address(word):
        return f"{word} is an address, and addresses are not read; download it, and give the file's path"
    known = ", ".join(COMMANDS)
    return f"{repr(word) if is_blank(word) else word} is neither a command ({known}) nor a file (see `vitrail --help`)"


def _may_be_file(word: str) -> bool:
    """Whether what begins as a flag does may be meant for a file: ``-x.mp4``, but not ``-1.5`` or ``--fps=1.5``."""
    if not word.startswith("-") or word == "-":
        return False
    suffix = Path(word).suffix[1:]
    return os.path.lexists(word) or (not word.startswith("--") and suffix.isalnum() and not suffix.isdecimal())


def _source(text: str) -> str:
    """The words for a source, as ``open_source`` takes them."""
    if is_blank(text):
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; give a file or another source")
    return expanded(text)


def _written(text: str) -> str:
    """The name of a file or folder to be written."""
    if is_blank(text):
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; give a file or a folder")
    if is_address(text):
        raise argparse.ArgumentTypeError(f"{text} is an address, and nothing is written to addresses; give a path")
    return expanded(text)


def _written_path(text: str) -> Path:
    return Path(_written(text))


def _model(text: str) -> str:
    if is_blank(text):
        raise argparse.ArgumentTypeError(f"{text!r} names no model; give 'embedded', a folder, a file or a name")
    return text


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    words = "style the sample clip; needs no camera, display or GPU"
    parser = commands.add_parser("demo", help=words, description=_sentence(words))
    parser.add_argument(
        "--out-dir", type=_written_path, default=Path(), metavar="FOLDER", help="where to write (default: here)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, metavar="SECONDS", help="only this much of the clip")
    length.add_argument("--frames", type=int, metavar="FRAMES", help="only so many frames of the clip")
    add_settings(parser)


def _add_render(commands: argparse._SubParsersAction[Parser]) -> None:
    words = "style a video, a picture or a folder of pictures"
    parser = commands.add_parser("render", help=words, description=_sentence(words))
    inputs = "video, picture, folder of pictures, testcard, camera:0, screen:1, window:TITLE; none with --text-to-image"
    parser.add_argument("input", type=_source, metavar="IN", help=inputs)
    words = f"with --text-to-image, which takes no IN: how many pictures (default: {TEXT_FRAMES})"
    parser.add_argument("-n", "--frames", type=int, metavar="FRAMES", help=words)
    words = "video, picture, or FOLDER/ for numbered pictures; is replaced"
    parser.add_argument("output", type=_written, metavar="OUT", help=words)
    parser.add_argument(
        "--report", type=_written_path, metavar="JSON", help="write frames, speed and latency to this file"
    )
    parser.add_argument("--fps", type=float, metavar="FPS", help="make pictures in between, for so many a second")
    parser.add_argument("--no-audio", action="store_true", help="leave the sound out")
    add_settings(parser)


def _add_bench(commands: argparse._SubParsersAction[Parser]) -> None:
    words = "measure what this machine can do, and say what to set, in about a minute"
    parser = commands.add_parser("bench", help=words, description=_sentence(words))
    known = {name: one for name, _, one in described(Settings)}
    parser.add_argument("--model", type=_model, default="embedded", metavar="MODEL", help=known["model"].help)
    words = "sides of the square pictures (default: the model's own, and others where these are too slow or leave room)"
    parser.add_argument("--size", type=int, nargs="+", metavar="PIXELS", help=words)
    words = "default: 1 2 4, and what the model recommends"
    parser.add_argument("--steps", type=int, nargs="+", metavar="STEPS", help=words)
    words = f"{' | '.join(ACCELERATIONS)} (default: all that are there, but compile, which takes minutes)"
    parser.add_argument("--acceleration", nargs="+", metavar="NAME", help=words)
    words = "pictures a second that you want, for the advice at the end (default: 24)"
    parser.add_argument("--fps", type=float, default=24.0, metavar="FPS", help=words)
    for name in ("device", "dtype"):
        words = f"{known[name].help} ({' | '.join(known[name].choices or ())}; default: auto)"
        parser.add_argument(f"--{name}", default="auto", metavar=name.upper(), help=words)
    words = "also with sparse inference, where so much of the picture changes (default: 5 25)"
    parser.add_argument("--sparse", type=float, nargs="*", metavar="PERCENT", help=words)
    words = "how long each line is measured (default: 4)"
    parser.add_argument("--seconds", type=float, default=4.0, metavar="SECONDS", help=words)
    parser.add_argument("--json", type=_written_path, metavar="FILE", help="also write all figures to this file")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _version() -> str:
    try:
        return version("vitrail")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "(not installed)"
