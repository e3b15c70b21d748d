"""A process that compiles one network by Inductor and writes what comes of it to a file.

It is a process of its own, as a compiler that is written in Python would hold up the live picture: it keeps the
interpreter's lock for most of a minute. The network arrives over the standard input, without weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import nn

from pipeline.conditioning.conditions import Signature
from pipeline.models.networks import placed

# CUDA graphs are captured by whoever runs it: Inductor's own are bound to the thread that made them.
_OPTIONS = {"triton.cudagraphs": False}

_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be compiled.

    Attributes:
        module: with weights on the device ``meta``, where they take no memory.
        inputs: name, dtype and shape of each.
        device: as text, where it is to run.
        out: the file to write; beside it, as ``.json``, the names of its arguments and of what it gives.
    """

    module: nn.Module
    inputs: Signature
    device: str
    out: str


def compile_network(job: Job) -> None:
    """Compile a network for one shape of its inputs, and write it with what its arguments are.

    Raises:
        RuntimeError: it cannot be written as one graph of its weights and inputs.
    """

    def made(one: torch.Tensor) -> torch.Tensor:
        tensor = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=job.device)
        return tensor.normal_() if one.is_floating_point() else tensor.zero_()

    module = placed(job.module, made).eval()
    inputs = {name: torch.zeros(shape, dtype=dtype, device=job.device) for name, dtype, shape in job.inputs}
    with torch.no_grad():
        program = torch.export.export(module, (), inputs, strict=False)
        weights = {**dict(module.named_parameters()), **dict(module.named_buffers(remove_duplicate=False))}
        names, given = [], []
        # Weights are arguments of what is compiled, and no part of it: the model's own are given, and may change.
        for one in program.graph_signature.input_specs:
            name = one.arg.name if one.target is None else one.target
            found = (inputs if one.target is None else weights).get(name)
            if found is None:
                raise RuntimeError(f"the network reads {name}, which is neither a weight nor an input")
            names.append([one.target is not None, name])
            given.append(found)
        compiled = torch._inductor.standalone_compile(
            program.graph_module, given, dynamic_shapes="from_example_inputs", options={"config_patches": _OPTIONS}
        )
    outputs = list(module(**inputs))
    compiled.save(path=job.out, format="binary")
    Path(job.out).with_suffix(".json").write_text(json.dumps({"arguments": names, "outputs": outputs}))


def end_with_children(pid: int) -> None:
    """End a process and all that it has started: a compiler leaves its work to others."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.Error):
                one.kill()


def end_with(parent: int) -> None:
    """End this process when ``parent`` has ended, however that was: it may have been killed."""
    try:
        watched = psutil.Process(parent)
    except psutil.Error:
        end_with_children(os.getpid())
        return

    def watch() -> None:
        while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
            time.sleep(_WATCH_SECONDS)
        end_with_children(os.getpid())

    threading.Thread(target=watch, daemon=True).start()


def main(parent: int) -> int:
    """Read a ``Job`` from the standard input; the exit status is 0 when its file is there.

    Args:
        parent: the process that wants it.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    end_with(parent)
    # Only ever what the program that started this process writes into its pipe.
    job = pickle.load(sys.stdin.buffer)
    assert isinstance(job, Job)
    try:
        compile_network(job)
    except Exception as error:  # noqa: BLE001 - a compiler may raise anything; who asked for it is to read what
        sys.stderr.write(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}\n")
        return 1
    return 0 if Path(job.out).is_file() else 1
