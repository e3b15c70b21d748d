"""Faster ways to run a model's networks, behind one call: ``accelerate``."""

from pipeline.backends.backend import AccelerationError, Backend
from pipeline.backends.selection import accelerate

__all__ = ["AccelerationError", "Backend", "accelerate"]
