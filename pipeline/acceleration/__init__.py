"""Faster ways to run a model's networks, behind one call: ``accelerate``."""

from pipeline.acceleration.backend import AccelerationError, Backend
from pipeline.acceleration.choice import accelerate

__all__ = ["AccelerationError", "Backend", "accelerate"]
