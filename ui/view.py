"""What the window shows, free of Qt: which source to start with, how settings change, and the words on the screen."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from app.cameras import first_camera
from app.fetching import fetched_words
from app.session import Session
from app.standing import Values
from app.status import SessionState, Status
from assets.sample import clip_path
from ui.choice import Choice

FIRST_PROMPT = "a watercolour"


def first_choice(spec: str | None, last: str = "") -> Choice:
    """The source that was asked for; else that of the last time, where it is still there; else the first camera.

    Where there is none of these it is the sample clip.

    Args:
        spec: as ``open_source`` takes it.
        last: what ``remembered`` gave the last time.
    """
    if spec is not None:
        return Choice(spec, Path(spec).name)
    found = first_camera()
    if last and _is_there(Choice(last, ""), found is not None):
        return Choice(last, Path(last).name)
    return Choice(f"camera:{found.index}", found.name) if found else Choice(str(clip_path()), "Sample clip")


def remembered(choice: Choice) -> str:
    """The source as it is kept for the next time; empty for one that means nothing then."""
    # A window is another one the next time, and the clip of our own is only for want of a camera.
    lasting = choice.kind != "window" and choice.spec != str(clip_path())
    if choice.kind in ("image", "folder", "video"):
        return os.path.abspath(choice.spec) if lasting else ""  # noqa: PTH100 - the file may be gone
    return choice.spec if lasting else ""


def _is_there(choice: Choice, camera: bool) -> bool:
    if choice.kind == "camera":
        return camera
    return choice.kind not in ("image", "folder", "video") or os.path.exists(choice.spec)  # noqa: PTH110 - never raises


def first_choices(chosen: Values) -> Values:
    """``chosen``, with a prompt where none was, so that the first picture shows what this is about."""
    return chosen if "prompt" in chosen else {**chosen, "prompt": FIRST_PROMPT}


@dataclass(frozen=True, slots=True)
class Message:
    """What is written over the picture.

    Attributes:
        text: empty while all is well.
        kind: ``info``, ``working`` or ``error``.
        button: what can be done about it; empty where nothing.
    """

    text: str = ""
    kind: str = "info"
    button: str = ""


def said_of(session: Session, *, paused: bool = False, seconds_left: float | None = None) -> Message:
    """What the window says of the session as it is now; ``seconds_left`` as in ``message``."""
    fetching = fetched_words(session.settings.model, session.fetched)
    return message(session.status, paused=paused, fetching=fetching, seconds_left=seconds_left)


def message(status: Status, *, paused: bool = False, fetching: str = "", seconds_left: float | None = None) -> Message:
    """What the window says of the session's state.

    Args:
        fetching: how far the download of a first model is.
        seconds_left: until the first picture, as long as the last start took; None where that is not known.
    """
    words = status.message or status.state.value.capitalize()
    if status.state is SessionState.FAILED:
        return Message(words, "error", "Start again")
    if paused:
        return Message("Paused. Nothing is being watched.", "info", "Go on")
    if status.state is SessionState.STALLED:
        return Message(f"{words} Vitrail keeps trying.", "error", "Choose a source")
    if status.state is SessionState.LOADING and fetching:
        return Message(f"{fetching}…", "working", "Cancel")
    if status.state is SessionState.LOADING and seconds_left is not None:
        when = f"in about {math.ceil(seconds_left)} s" if seconds_left > 0 else "at any moment"
        return Message(f"{words}. Styling starts {when}…", "working")
    if status.state in (SessionState.STARTING, SessionState.LOADING):
        return Message(f"{words}…", "working")
    return Message() if status.state is SessionState.RUNNING else Message(words, "info", "Choose a source")
