"""The engine: one frame in, one frame out. Knows neither the application nor Qt.

from pipeline import Stream, StreamConfig, load_model

stream = Stream(load_model("embedded"), StreamConfig(prompt="a watercolour"))
picture = stream(frame).image  # frame: (3, 256, 256) float 0..1; picture: (1, 3, 256, 256)
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.config import GUIDANCE_KINDS, SOLVERS, SPACINGS, StreamConfig

if TYPE_CHECKING:
    from pipeline.models import Model, ModelError, load_model
    from pipeline.stream import Output, Stream

__all__ = [
    "GUIDANCE_KINDS",
    "SOLVERS",
    "SPACINGS",
    "Model",
    "ModelError",
    "Output",
    "Stream",
    "StreamConfig",
    "load_model",
]


def __getattr__(name: str) -> object:
    # These need torch and diffusers, which take seconds to import; who only reads the settings, as `vitrail --help`
    # does, should not wait for them.
    if name not in ("Model", "ModelError", "Output", "Stream", "load_model"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _without_collector():
        if name in ("Output", "Stream"):
            import pipeline.stream as home
        else:
            import pipeline.models as home
    return getattr(home, name)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Python's collector rests inside: what torch makes while it is imported stays, and to look for garbage in it again
    and again is a seventh of the time that the import takes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
