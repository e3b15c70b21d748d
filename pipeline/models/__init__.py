"""Find, check and load models; a ``Model`` bundle comes out."""

from pipeline.models.errors import ModelError
from pipeline.models.loader import EMBEDDED, EMBEDDED_PATH, find_model, load_model
from pipeline.models.model import Model

__all__ = ["EMBEDDED", "EMBEDDED_PATH", "Model", "ModelError", "find_model", "load_model"]
