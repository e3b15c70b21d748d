"""In which number format OpenVINO calculates a model.

A format that was asked for is obeyed. Else, on Intel's GPUs and NPUs, it is float16, as OpenVINO itself has it there.
On a CPU it is the one in which a short trial on this very processor was fastest. The trial runs once, beside the
stream, and is remembered on disk. Until then, what the processor says of itself decides, which is mostly right, but not
always: with ``avx512_bf16``, bfloat16 takes 0.55 of float32's time on an AMD EPYC, and 1.6 times as long on an Intel
Xeon whose matrix tiles are switched off.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline.backends.beside import creation_flags
from pipeline.backends.openvino import trial
from pipeline.backends.openvino.package import import_openvino
from pipeline.device import cpu_abilities, cpu_has_amx, number_format
from pipeline.file_cache import cache_folder

logger = logging.getLogger(__name__)

# Milliseconds of the trial's network by format, of those in ``trial.FORMATS`` that can be had.
Times = Mapping[str, float]

# Parts of a model whose convolutions can calculate in eight bits, by the names under which bounds are stated.
EIGHT_BIT_PARTS = ("encoder", "decoder", "unet")
# A coarser format must be faster by so much to be worth what it costs in exactness.
_BFLOAT16_PAYS, _EIGHT_BITS_PAY = 1.1, 1.4
# For the decoder it is enough if the trial's network is not clearly slower, as a picture's many pixels take a quarter
# of the memory. On an Intel Xeon with AMX, where the trial's gains 1.0 to 1.2 over bfloat16, the decoder gains 2, and
# the UNet 1.08. Beside a build the trial's times differ by a fifth, which must not decide on what a film looks like.
_EIGHT_BITS_PAY_DECODING = 0.75
_TRIAL_SECONDS = 60  # a trial takes one; on a machine that is so busy, another start will do


@dataclass(frozen=True, slots=True)
class Format:
    """What networks calculate in.

    Attributes:
        floating: the number format.
        eight_bits: of ``EIGHT_BIT_PARTS``, those whose convolutions calculate in eight bits instead, between bounds.
    """

    floating: torch.dtype
    eight_bits: tuple[str, ...] = ()


def format_for(device: str, asked: torch.dtype | None, times: Times | None) -> Format:
    """The format for ``device``.

    Args:
        device: ``CPU``, ``GPU`` or ``NPU``, as OpenVINO calls them.
        asked: the number format that the user wants; None for the fastest.
        times: what the trial has measured on this CPU; None before it.
    """
    if device != "CPU":
        abilities = import_openvino().Core().get_property(device, "OPTIMIZATION_CAPABILITIES")
        return Format(asked or (torch.float16 if "FP16" in abilities else torch.float32))
    return _by_trial(asked, times) if times and "float32" in times else _by_abilities(asked)


def _by_abilities(asked: torch.dtype | None) -> Format:
    has_bfloat16 = cpu_has_amx() or "avx512_bf16" in cpu_abilities()
    floating = asked or (torch.bfloat16 if has_bfloat16 else torch.float32)
    return Format(floating, EIGHT_BIT_PARTS if floating == torch.float32 else ("decoder",))


def _by_trial(asked: torch.dtype | None, times: Times) -> Format:
    bfloat16_gains = times["float32"] / times.get("bfloat16", float("inf"))
    floating = asked or (torch.bfloat16 if bfloat16_gains >= _BFLOAT16_PAYS else torch.float32)
    name = number_format(floating)
    if name not in times:  # float16 is not tried: it is there to be asked for
        return _by_abilities(floating)
    gain = times[name] / times.get(f"{name} and int8", float("inf"))
    if gain >= _EIGHT_BITS_PAY:
        return Format(floating, EIGHT_BIT_PARTS)
    return Format(floating, ("decoder",) if gain >= _EIGHT_BITS_PAY_DECODING else ())


class Trials:
    """What was measured of processors: a file in the user's cache folder.

    Args:
        folder: where the file is; made when it is first written to.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = (folder or cache_folder()) / "formats.json"

    def times(self) -> Times | None:
        """What was measured of this processor, with this OpenVINO; None where nothing was."""
        return self._read().get(_this_processor())

    def run(self) -> None:
        """Measure this processor and remember it; takes about a second. Where it fails, the log says so."""
        command = [sys.executable, "-P", trial.__file__]
        try:
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=_TRIAL_SECONDS,
                creationflags=creation_flags(),
            )
            measured = _times_of(json.loads(done.stdout))
            if not measured:
                raise ValueError(f"it has measured {done.stdout.strip()!r}")
            known = self._read() | {_this_processor(): measured}
            draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
            draft.replace(self._path)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            logger.warning("the number formats could not be tried out on this processor: %s", error)
            return
        found = ", ".join(f"{name} {milliseconds:.2f} ms" for name, milliseconds in measured.items())
        logger.info("number formats on this processor, from the next start on: %s", found)

    def _read(self) -> dict[str, Times]:
        """By processor; what makes no sense counts as not there."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            return {processor: times for processor, found in stored.items() if (times := _times_of(found))}
        return {}


def _times_of(stored: object) -> Times:
    """Times that make sense; else none."""
    if not isinstance(stored, dict) or not stored.keys() <= trial.FORMATS.keys():
        return {}
    sound = all(isinstance(one, float) and 0 < one < float("inf") for one in stored.values())
    return stored if sound else {}


def _this_processor() -> str:
    """Its name alone would not do: behind a hypervisor, several have the same."""
    name = import_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME")
    return ", ".join([name, *sorted(cpu_abilities()), f"openvino {version('openvino')}"])
