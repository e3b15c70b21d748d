"""A process that compiles one network by Inductor and writes what comes of it to a file.

It is a process of its own, as a compiler that is written in Python would hold up the live picture: it keeps the
interpreter's lock for most of a minute. The network arrives over the standard input, without weights.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.conditioning.conditions import Signature
from pipeline.models.networks import placed

# Weights are inputs of what is compiled, and no part of it: the model's own are given to it, and may change in place.
# Without the second setting Inductor would write small ones (the bias of the last layer) into its code.
_OPTIONS = {"aot_inductor.package_constants_in_so": False, "always_keep_tensor_constants": True}


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be compiled.

    Attributes:
        module: with weights on the device ``meta``, where they take no memory.
        inputs: name, dtype and shape of each.
        device: as text, where it is to run.
        out: the file to write.
    """

    module: nn.Module
    inputs: Signature
    device: str
    out: str


def compile_network(job: Job) -> None:
    """Compile a network for one shape of its inputs."""

    def made(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        # Not zeros: the compiler looks for weights that are all alike, and takes them for constants.
        tensor = torch.empty_strided(shape, stride, dtype=dtype, device=job.device)
        return tensor.normal_() if dtype.is_floating_point else tensor.zero_()

    module = placed(job.module, lambda one: made(one.shape, one.stride(), one.dtype)).eval()
    inputs = {name: torch.zeros(shape, dtype=dtype, device=job.device) for name, dtype, shape in job.inputs}
    with torch.no_grad():
        program = torch.export.export(module, (), inputs, strict=False)
        torch._inductor.aoti_compile_and_package(program, package_path=job.out, inductor_configs=_OPTIONS)


def main() -> int:
    """Read a ``Job`` from the standard input; the exit status is 0 when its file is there."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)
    # Only ever what the program that started this process writes into its pipe.
    job = pickle.load(sys.stdin.buffer)
    assert isinstance(job, Job)
    try:
        compile_network(job)
    except Exception as error:  # noqa: BLE001 - a compiler may raise anything; who asked for it is to read what
        sys.stderr.write(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}\n")
        return 1
    return 0 if Path(job.out).is_file() else 1


if __name__ == "__main__":
    sys.exit(main())
