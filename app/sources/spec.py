"""From a few words to a source: ``camera:1``, ``screen:2:0,0,640,480``, ``testcard:seed=1``, ``holiday.mp4``."""

from __future__ import annotations

import os
from typing import Any

from app.drawing import Drawing
from app.sources.base import Source, SourceError
from app.sources.camera import CameraSource
from app.sources.canvas import CanvasSource
from app.sources.images import IMAGE_SUFFIXES, AnimationSource, ImageFolderSource, ImageSource
from app.sources.screen import ScreenSource
from app.sources.testcard import TestCardSource
from app.sources.text import TextSource
from app.sources.video import VideoSource
from app.sources.window import WindowSource
from app.words import TEXT_FRAMES
from pipeline.picture_file import Kind, kind_of
from pipeline.user_path import is_address, is_file, is_folder, is_there, user_path
from pipeline.whole_files import NOT_ORDINARY

_TESTCARD_OPTIONS = {"seed": int, "width": int, "height": int, "fps": float, "frames": int}
_TEXT_OPTIONS = {name: _TESTCARD_OPTIONS[name] for name in ("width", "height", "fps", "frames")}


def open_source(spec: str, *, live: bool = False) -> Source:
    """The source that ``spec`` names, not yet opened.

    Args:
        spec: one of

            - ``camera``, ``camera:NUMBER``, ``camera:PART OF NAME``; each also with a size, as ``camera:1@1280x720``
            - ``screen``, ``screen:NUMBER``, ``screen:NUMBER:x,y,width,height``
            - ``window:PART OF TITLE``, ``window:NUMBER``
            - ``canvas``, ``canvas:WIDTHxHEIGHT``
            - ``testcard``, ``testcard:seed=1,width=640,height=480,fps=30,frames=99`` (any part of these)
            - ``text``, ``text:width=512,height=512,fps=24,frames=99``: no picture, for text to image
            - the path of a video, a picture, or a folder of pictures; what is in a file says its content, not its name

            A file of that name comes first, so that ``camera:front.mp4`` may be one. Only the single words ``camera``,
            ``screen``, ``canvas``, ``testcard`` and ``text`` are never a path; ``./text`` is.
        live: play a video in real time and without end, repeat a picture without end, and keep a test card
            or ``text`` to the clock. Cameras and screens are always live.

    Raises:
        SourceError: nothing is known by that name.
    """
    kind, colon, rest = spec.partition(":")
    if colon and os.path.lexists(spec):
        return _file(spec, live)
    if kind == "camera":
        return _camera(spec, rest)
    if kind == "screen":
        return _screen(spec, rest)
    if kind == "window" and rest:
        return WindowSource(int(rest) if rest.isdecimal() else rest)
    if kind == "testcard":
        return _testcard(spec, rest, live)
    if kind == "text":
        return _text(spec, rest, live)
    if kind == "canvas":
        return _canvas(spec, rest)
    return _file(spec, live)


def _file(spec: str, live: bool) -> Source:
    if is_address(spec):
        raise SourceError(f"{spec} is an address, and addresses are not read; download it, and give the file's path.")
    path = user_path(spec)
    if spec and is_folder(path):
        return ImageFolderSource(path, live=live)
    if spec and is_there(path) and not is_file(path):
        raise SourceError(f"{path} cannot be read: {NOT_ORDINARY}.")
    kind = kind_of(path)
    if kind in (Kind.STILL, Kind.CODED) or (kind is Kind.UNKNOWN and path.suffix.lower() in IMAGE_SUFFIXES):
        return ImageSource(path, live=live)
    if kind is Kind.ANIMATED:
        return AnimationSource(path, live=live)
    if path.suffix or (spec and os.path.lexists(path)):
        return VideoSource(path, realtime=live, loop=live)
    raise SourceError(
        f"{spec!r} is no file or folder; "
        "give one, or camera:1, screen:2:0,0,640,480, window:TITLE, canvas, text or testcard."
    )


def _camera(spec: str, rest: str) -> CameraSource:
    which, at, size = rest.rpartition("@")
    if not at:
        return CameraSource(_which(rest))
    width, _, height = size.partition("x")
    try:
        return CameraSource(_which(which), size=(int(width), int(height)))
    except ValueError as error:
        raise SourceError(f"{spec!r} is not understood; write camera:1@1280x720.") from error


def _which(text: str) -> int | str:
    return int(text) if text.isdecimal() else text or 0


def _screen(spec: str, rest: str) -> ScreenSource:
    number, _, region = rest.partition(":")
    try:
        monitor = int(number or 1)
        numbers = tuple(int(part) for part in region.split(",")) if region else None
        if numbers is None:
            return ScreenSource(monitor)
        x, y, width, height = numbers
    except ValueError as error:
        raise SourceError(f"{spec!r} is not understood; write screen:1 or screen:1:x,y,width,height.") from error
    return ScreenSource(monitor, (x, y, width, height))


def _testcard(spec: str, rest: str, live: bool) -> TestCardSource:
    options = _options(spec, rest, _TESTCARD_OPTIONS)
    if not live:
        options.setdefault("frames", 300)
    return TestCardSource(live=live, **options)


def _text(spec: str, rest: str, live: bool) -> TextSource:
    options = _options(spec, rest, _TEXT_OPTIONS)
    if not live:
        options.setdefault("frames", TEXT_FRAMES)
    return TextSource(live=live, **options)


def _options(spec: str, rest: str, known: dict[str, type]) -> dict[str, Any]:
    """``a=1,b=2`` as numbers of the known kinds."""
    options = {}
    try:
        for part in filter(None, rest.split(",")):
            name, _, value = part.partition("=")
            options[name.strip()] = known[name.strip()](value)
    except (KeyError, ValueError) as error:
        kind = spec.partition(":")[0]
        raise SourceError(f"{spec!r} is not understood; write {kind}:NAME=NUMBER,… with {', '.join(known)}.") from error
    return options


def _canvas(spec: str, rest: str) -> CanvasSource:
    if not rest:
        return CanvasSource()
    width, _, height = rest.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise SourceError(f"{spec!r} is not understood; write canvas:WIDTHxHEIGHT.")
    try:
        return CanvasSource(Drawing(int(width), int(height)))
    except ValueError as error:
        raise SourceError(f"{spec!r} cannot be: {error}; write canvas:WIDTHxHEIGHT.") from error
