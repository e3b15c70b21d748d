"""``vitrail render IN OUT``: a file in, a styled file out; every frame, in order, with its sound."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from app.commands.misuse import Misuse
from app.commands.options import chosen_in, settings_from, without_effect
from app.commands.paths import check_apart, model_files
from app.feed import first_frame
from app.json_files import write_json
from app.reprojection.smooth import SmoothSink
from app.settings import Settings
from app.sinks import ImageFolderSink, ImageSink, Sink, SinkError, VideoSink
from app.sinks.video import check_writable
from app.sources import Source, SourceError, open_source
from app.sources.canvas import CanvasSource
from app.sources.images import IMAGE_SUFFIXES, ImageFolderSource
from app.sources.text import TextSource
from app.sources.video import VideoSource
from app.words import of_words
from pipeline.user_path import is_folder, is_there


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Carry the command out. Raises ``Misuse``, or what ``run_to_end`` raises."""
    settings, notes = settings_from(arguments)
    if arguments.report is not None:
        check_report(arguments.report)
    try:
        source = _source(arguments)
        if isinstance(source, TextSource):
            settings = of_words(settings)
        if settings.stream.conflict:
            raise Misuse(settings.stream.conflict)
        probe(source)
        sink = choose_sink(arguments.input, arguments.output, source, audio=not arguments.no_audio, fps=arguments.fps)
        check_apart(_read(arguments, source, settings), _written(arguments))
        smooth = smoothed(sink, arguments.fps) if arguments.fps is not None else None
        outlet = smooth or sink
        outlet.open()  # checks the output now, before seconds go into loading a model
    except (SourceError, SinkError) as error:
        raise Misuse(str(error)) from error

    # Only now, as these import torch: a mistyped name should not take seconds to be told.
    from app.commands.progress import Narrator, run_to_end, say, summary
    from app.session import Session

    if not settings.stream.prompt:
        stays = "is anything at all" if settings.stream.text_to_image else "stays much as it is"
        notes.append(f"without --prompt the picture {stays}")
    for note in notes:
        say(console, note)
    narrator = Narrator(console)
    session = Session(source, settings, [outlet], once=True, listener=narrator, chosen=chosen_in(arguments))
    try:
        run_to_end(session, narrator, console, f"Rendering {source.name}", source.frame_count)
    except (KeyboardInterrupt, Misuse):
        # What is done by then is a film that can be played, and has a report like any other.
        if arguments.report is not None and (so_far := session.report()) is not None:
            write_report(arguments.report, so_far | _size_in(sink))
        say_older(sink, arguments.output, console)
        raise
    if isinstance(sink, VideoSink | ImageSink) and sink.lost:
        say(console, sink.lost)
    say_older(sink, arguments.output, console)
    for note in without_effect(arguments, session.settings, source.live):
        say(console, note)
    if arguments.no_audio and not isinstance(sink, VideoSink):
        say(console, "--no-audio had no effect: pictures have no sound")
    if arguments.report is not None:
        made = {"frames_reprojected": smooth.made} if smooth else {}
        write_report(arguments.report, (session.report() or {}) | made | _size_in(sink))
    say(console, f"{arguments.output}: {summary(session, sink.size if isinstance(sink, VideoSink) else None)}")
    if smooth:
        say(console, f"{smooth.made} pictures in between were carried along the motion, for {arguments.fps:g} fps")
    return 0


def _source(arguments: argparse.Namespace) -> Source:
    frames = arguments.frames
    if frames is None:
        source = open_source(arguments.input)
        if isinstance(source, CanvasSource):
            raise Misuse("the canvas is for the window, where somebody draws on it: vitrail --source canvas")
        return source
    if arguments.input != "text":
        raise Misuse(f"--frames is for --text-to-image; how long {arguments.input} is, it says itself")
    return open_source(f"text:frames={frames}")


def _read(arguments: argparse.Namespace, source: Source, settings: Settings) -> dict[str, Sequence[Path]]:
    """The files that are read, by what they are for the user."""
    given = source.pictures if isinstance(source, ImageFolderSource) else [Path(arguments.input)]
    return {"the input": given, **model_files(settings)}


def _written(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files and the folder that are written, by what they are for the user."""
    output = {"the output": Path(arguments.output)}
    return output | ({"the report": arguments.report} if arguments.report is not None else {})


def probe(source: Source) -> None:
    """Read one frame, so that what cannot be read, or does not answer, is known at once. Raises ``SourceError``."""
    if first_frame(source) is None and not source.live:
        raise SourceError(f"{source.name} has no frames.")


def smoothed(sink: Sink, fps: float) -> SmoothSink:
    """``sink`` with pictures in between. Raises ``Misuse`` where there can be none."""
    if isinstance(sink, ImageSink):
        raise Misuse("--fps is for a video or a folder of pictures; one picture has nothing in between.")
    try:
        return SmoothSink(sink, fps)
    except ValueError as error:
        raise Misuse(str(error)) from error


def choose_sink(spec: str, output: str, source: Source, *, audio: bool, fps: float | None = None) -> Sink:
    """The sink that ``output`` asks for by its form, given what comes in.

    Raises:
        Misuse: the output is the input, or a folder where a file is wanted.
    """
    path = Path(output)
    came_from = Path(spec)
    if is_there(came_from) and is_there(path) and came_from.samefile(path):
        raise Misuse(f"{output} is also the input; give the output another name.")
    still = source.frame_count == 1
    pictures = isinstance(source, ImageFolderSource) or (still and not isinstance(source, VideoSource))
    if output.endswith(("/", os.sep)) or (pictures and (is_folder(path) or not path.suffix)):
        return ImageFolderSink(path)
    if is_folder(path):
        raise Misuse(f"{output} is a folder; write {output}{os.sep} to have numbered pictures in it.")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        unknown = isinstance(source, VideoSource) and source.frame_count is None
        if not still and not (unknown and _is_one_picture(came_from)):
            raise Misuse(f"{output} is one picture, {source.name} is many; give a video or a folder{os.sep}.")
        check_writable(path)
        return ImageSink(path)
    sound = came_from if audio and isinstance(source, VideoSource) else None
    return VideoSink(path, audio_from=sound, nominal_fps=lambda: fps or source.fps)


def _is_one_picture(path: Path) -> bool:
    """Whether one picture is all there is in a file that says nothing of it: an icon, or what FFmpeg alone reads.

    Raises ``SourceError`` where it cannot be read.
    """
    source = VideoSource(path)  # the one that was probed may yet be closed by whoever probed it
    try:
        source.open()
        return source.read() is not None and source.read() is None
    finally:
        source.close()


def _size_in(sink: Sink) -> dict[str, int]:
    """The report's width and height where all pictures of ``sink`` have one size, whatever that of the last one was."""
    return dict(zip(("width", "height"), sink.size, strict=True)) if isinstance(sink, VideoSink) and sink.size else {}


def say_older(sink: Sink, folder: str, console: Console) -> None:
    """Say how many pictures of earlier times are in the folder that was written, since they would be read with it."""
    from app.commands.progress import say  # not above: it imports torch

    if isinstance(sink, ImageFolderSink) and sink.older:
        many = "1 older numbered picture" if sink.older == 1 else f"{sink.older} older numbered pictures"
        say(console, f"{folder} has {many} in it besides those of this run")


def check_report(path: Path) -> None:
    """Raise ``Misuse`` where no report can be written."""
    try:
        check_writable(path)
    except SinkError as error:
        raise Misuse(f"The report {error}") from error


def write_report(path: Path, report: object) -> None:
    """Write the report, whole or not at all. Raises ``Misuse`` where the disk does not take it."""
    try:
        write_json(path, report)
    except OSError as error:
        raise Misuse(f"The report {path} cannot be written: {error.strerror}.") from error
