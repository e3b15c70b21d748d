"""Residual guidance over full guidance, and Stream Batch over one frame after the other."""

from __future__ import annotations

import argparse

import torch

from pipeline import load_model
from pipeline.backends import accelerate
from tests.benchmarks import engine
from tests.benchmarks.gpu_parts import live
from tests.benchmarks.gpu_parts.job import Job, Results


def measure(job: Job, results: Results) -> None:
    """In CUDA graphs, which are built in seconds for every kind; the ratios are those of the arithmetic."""
    model = load_model(job.model)
    backend = accelerate(model, job.acceleration or ("cuda-graphs" if torch.cuda.is_available() else "auto"))
    subject, clip = engine.Subject(model, backend), live.clip_of(job.size())
    options = argparse.Namespace(rounds=job.count(4), frames=job.count(8))
    results["acceleration"] = backend.name
    results["kinds"] = engine.guidance(subject, clip, 5, options)
    results["stream_batch"] = engine.batching(subject, clip, options)
    backend.close()
