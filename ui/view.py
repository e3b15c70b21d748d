"""What the window shows, free of Qt: which source to start with, how settings change, and the words on the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.cameras import cameras
from app.settings import Settings
from app.sources import Source, open_source
from app.status import SessionState, Status
from assets.sample import clip_path

FIRST_PROMPT = "a watercolour painting"


def first_source(spec: str | None) -> Source:
    """The source that was asked for; else the first camera; else the sample clip, over and over.

    Raises:
        SourceError: ``spec`` names no source.
    """
    if spec is not None:
        return open_source(spec, live=True)
    found = cameras()
    return open_source(f"camera:{found[0].index}" if found else str(clip_path()), live=True)


def first_settings(settings: Settings | None) -> Settings:
    """``settings``, with a prompt where there is none, so that the first picture shows what this is about."""
    settings = settings or Settings()
    return settings if settings.stream.prompt.strip() else with_stream(settings, prompt=FIRST_PROMPT)


def with_stream(settings: Settings, **changes: Any) -> Settings:
    """``settings`` with other engine settings. Raises ``ValueError`` where one is out of its range."""
    return replace(settings, stream=replace(settings.stream, **changes))


def banner(status: Status) -> str:
    """What is written over the picture; nothing while all is well."""
    if status.state is SessionState.RUNNING:
        return ""
    return status.message or status.state.value.capitalize()
