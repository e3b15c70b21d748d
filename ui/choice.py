"""A source that can be chosen, by its name. Free of Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.sources.images import IMAGE_SUFFIXES

CANVAS = "canvas"


@dataclass(frozen=True, slots=True)
class Choice:
    """A source to choose.

    Attributes:
        spec: as ``open_source`` takes it.
        name: for people.
    """

    spec: str
    name: str

    @property
    def kind(self) -> str:
        """Camera, screen, region, window, canvas, testcard, text, image, folder or video."""
        head, _, rest = self.spec.partition(":")
        if head == "screen":
            return "region" if ":" in rest else "screen"
        if head in ("camera", "window", "canvas", "testcard", "text"):
            return head
        path = Path(self.spec)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return "image"
        return "folder" if path.is_dir() else "video"

    @property
    def icon(self) -> str:
        """The drawing that stands for its kind."""
        return {"canvas": "brush", "text": "brush", "video": "film"}.get(self.kind, self.kind)
