"""The engine: one frame in, one frame out. Knows neither the application nor Qt.

from pipeline import Stream, StreamConfig, load_model

stream = Stream(load_model("embedded"), StreamConfig(prompt="a watercolour"))
picture = stream(frame).image  # frame: (3, 256, 256) float 0..1; picture: (1, 3, 256, 256)
"""

from pipeline.config import GUIDANCE_KINDS, SOLVERS, StreamConfig
from pipeline.models import Model, ModelError, load_model
from pipeline.stream import Output, Stream

__all__ = ["GUIDANCE_KINDS", "SOLVERS", "Model", "ModelError", "Output", "Stream", "StreamConfig", "load_model"]
