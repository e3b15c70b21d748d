"""``vitrail demo``: the sample clip through the embedded model, with a tour of styles. No camera, screen or GPU."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from app.commands.contact_sheet import ContactSheet, Moment
from app.commands.misuse import Misuse
from app.commands.options import chosen_in, settings_from, without_effect
from app.commands.paths import check_apart, model_files
from app.frame import Frame
from app.settings import Settings
from app.sinks import SinkError, VideoSink
from app.sources import Source, SourceError, open_source
from pipeline.user_path import is_folder

TOUR = ("a pencil sketch", "a watercolour", "van gogh", "a comic book", "an anime character", "neon lights")
VIDEO_NAME = "vitrail-demo.mp4"
SHEET_NAME = "vitrail-demo.png"
_FALLBACK = "testcard:frames=240,fps=24"
_MOMENTS_OF_ONE_STYLE = 4


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Carry the command out. Raises ``Misuse``, or what ``run_to_end`` raises."""
    settings, notes = settings_from(arguments)
    folder: Path = arguments.out_dir
    if not is_folder(folder):
        raise Misuse(f"There is no folder {folder}; make it first, or give another --out-dir.")
    source, note = _sample()
    notes += [note] if note else []
    frames = _length(arguments, source)
    prompts = (settings.stream.prompt,) * _MOMENTS_OF_ONE_STYLE if settings.stream.prompt else TOUR
    stops = tour(frames, prompts)
    video, sheet = folder / VIDEO_NAME, folder / SHEET_NAME
    check_apart(model_files(settings), {"the clip": video, "the sheet": sheet})

    from app.commands.progress import Narrator, run_to_end, say, summary  # these import torch
    from app.session import Session

    for note in notes:
        say(console, note)
    narrator = Narrator(console)
    guided = GuidedSource(source, frames, settings, stops)
    sinks = (VideoSink(video, nominal_fps=lambda: source.fps), ContactSheet(sheet, [stop.moment for stop in stops]))
    try:
        session = Session(guided, guided.settings, sinks, once=True, listener=narrator, chosen=chosen_in(arguments))
    except SinkError as error:
        raise Misuse(str(error)) from error
    # Of the settings then in force, which may be what the model recommends.
    guided.change = lambda wanted: session.update(_with_prompt(session.settings, wanted.stream.prompt))
    run_to_end(session, narrator, console, "Styling the sample clip", frames)
    for note in without_effect(arguments, session.settings, live=False):
        say(console, note)
    say(console, summary(session))
    say(console, f"the clip is {video}, the pictures side by side are {sheet}")
    return 0


@dataclass(frozen=True, slots=True)
class Stop:
    """A part of the tour: from frame ``first`` on ``prompt`` is in force, and ``moment`` goes on the sheet."""

    first: int
    prompt: str
    moment: Moment


def tour(frames: int, prompts: Sequence[str]) -> list[Stop]:
    """Share ``frames`` evenly among the prompts; of fewer frames than prompts, the first prompts get one each."""
    prompts = prompts[:frames]
    edges = [frames * place // len(prompts) for place in range(len(prompts) + 1)]
    return [
        Stop(first, prompt, Moment((first + after) // 2, prompt))
        for first, after, prompt in zip(edges, edges[1:], prompts, strict=False)
    ]


class GuidedSource:
    """The first ``frames`` frames of a source, with the settings changed as each stop of a tour is reached.

    The capture thread looks at the settings after every ``read``, so that a change made in there is exact.
    """

    def __init__(self, source: Source, frames: int, settings: Settings, stops: Sequence[Stop]) -> None:
        self.name = source.name
        self.live = False
        self.fps = source.fps
        self.frame_count: int | None = frames
        self.lost: str | None = None
        self.settings = _with_prompt(settings, stops[0].prompt)
        self.change: Callable[[Settings], None] = lambda _: None
        self._source = source
        self._prompts = {stop.first: stop.prompt for stop in stops}

    def open(self) -> None:
        """Open the source. Raises ``SourceError``."""
        self._source.open()

    def read(self) -> Frame | None:
        """The next frame; None after the last that is wanted. Raises ``SourceError``."""
        frame = self._source.read()
        if frame is None or self.frame_count is None or frame.index >= self.frame_count:
            return None
        if prompt := self._prompts.get(frame.index):
            self.change(_with_prompt(self.settings, prompt))
        return frame

    def close(self) -> None:
        """Release the source."""
        self._source.close()


def _with_prompt(settings: Settings, prompt: str) -> Settings:
    return replace(settings, stream=replace(settings.stream, prompt=prompt))


def _sample() -> tuple[Source, str | None]:
    """The sample clip, opened once so that its length is known; without one, a test card and a note."""
    clips = sorted(str(entry) for entry in (files("assets") / "sample").iterdir() if entry.name.endswith(".mp4"))
    source = open_source(clips[0] if clips else _FALLBACK)
    try:
        source.open()
    except SourceError as error:
        raise Misuse(str(error)) from error
    finally:
        source.close()
    return source, None if clips else "this installation has no sample clip; a test card takes its place"


def _length(arguments: argparse.Namespace, source: Source) -> int:
    whole = source.frame_count or 1
    wanted = arguments.frames
    if arguments.seconds is not None:
        if not 0 < arguments.seconds < float("inf"):
            raise Misuse(f"seconds is {arguments.seconds}; it must be above 0")
        wanted = max(1, round(arguments.seconds * (source.fps or 24)))
    if wanted is not None and wanted < 1:
        raise Misuse(f"frames is {wanted}; it must be at least 1")
    return min(whole, wanted) if wanted else whole
