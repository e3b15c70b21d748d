"""The styles that a model says it knows, from the ``styles.json`` beside its weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import assets
from app.json_files import DamagedError, read_json
from pipeline.user_path import user_path

logger = logging.getLogger(__name__)

EMBEDDED_STYLES = Path(assets.__file__).parent / "models" / "vitrail-mini" / "styles.json"


@dataclass(frozen=True, slots=True)
class Style:
    """A way to draw that the model was taught.

    Attributes:
        name: for people: ``Watercolour``.
        prompt: the words that the model was taught it by.
        tint: whether it goes on top of a style instead of in its place.
        wordings: other words that the model was taught it by.
    """

    name: str
    prompt: str
    tint: bool = False
    wordings: tuple[str, ...] = field(default=(), compare=False)


def styles_of(model: str) -> tuple[Style, ...]:
    """What the model of this name (as in the settings) lists; nothing where it lists nothing that can be read.

    Reads a small file at most; a model that is not on this machine is not fetched.
    """
    path = EMBEDDED_STYLES if model == "embedded" else user_path(model) / "styles.json"
    try:
        found = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, DamagedError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return ()
    if not isinstance(found, dict):
        logger.warning("%s is not a list of styles", path)
        return ()
    return (*_listed(found.get("styles"), tint=False), *_listed(found.get("tints"), tint=True))


def _listed(found: Any, *, tint: bool) -> list[Style]:
    if not isinstance(found, list):
        return []
    return [
        Style(one["name"], one["prompt"], tint, tuple(_texts(one.get("paraphrases")) + _texts(one.get("held_out"))))
        for one in found
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("prompt"), str)
    ]


def _texts(found: Any) -> list[str]:
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
