"""What the window shows, free of Qt: which source to start with, how settings change, and the words on the screen."""

from __future__ import annotations

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


def first_choice(spec: str | None) -> Choice:
    """The source that was asked for; else the first camera that is one; else the sample clip."""
    if spec is not None:
        return Choice(spec, Path(spec).name)
    found = first_camera()
    return Choice(f"camera:{found.index}", found.name) if found else Choice(str(clip_path()), "Sample clip")


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


def said_of(session: Session, *, paused: bool = False) -> Message:
    """What the window says of the session as it is now."""
    fetching = fetched_words(session.settings.model, session.fetched)
    return message(session.status, paused=paused, fetching=fetching)


def message(status: Status, *, paused: bool = False, fetching: str = "") -> Message:
    """What the window says of the session's state; ``fetching`` says how far the download of a first model is."""
    words = status.message or status.state.value.capitalize()
    if status.state is SessionState.FAILED:
        return Message(words, "error", "Start again")
    if paused:
        return Message("Paused. Nothing is being watched.", "info", "Go on")
    if status.state is SessionState.STALLED:
        return Message(f"{words} Vitrail keeps trying.", "error", "Choose a source")
    if status.state is SessionState.LOADING and fetching:
        return Message(f"{fetching}…", "working", "Cancel")
    if status.state in (SessionState.STARTING, SessionState.LOADING):
        return Message(f"{words}…", "working")
    return Message() if status.state is SessionState.RUNNING else Message(words, "info", "Choose a source")
