"""Inductor: compiled in a process beside, kept on disk without weights, and never used where it is wrong."""

from __future__ import annotations

import gc
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from pipeline.backends.backend import AccelerationError
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.graphs import GraphBackend, compiled
from pipeline.backends.inductor import Inductor, _check_same, _key, check_compiler
from pipeline.models.networks import DenoiserNetwork
from pipeline.models.residency import DENOISER
from tests.pipeline.backends.small_network import BranchingNetwork, Small, SmallNetwork
from tests.tiny_model import new_tiny_model, tiny_model

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler here"
)


def inputs(rows: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    return {"rows": torch.randn(rows, 4)}, {"shift": torch.randn(rows, 4)}


def backend_with(model: object, inductor: Inductor) -> GraphBackend:
    return GraphBackend(model, "compile", compiled(inductor, inductor.stop))  # type: ignore[arg-type]


@needs_compiler
@torch.inference_mode()
def test_what_is_compiled_follows_the_weights_and_serves_other_models_of_its_shape(tmp_path: Path) -> None:
    model, network, cache = new_tiny_model(), SmallNetwork(), EngineCache(tmp_path)
    backend = backend_with(model, Inductor(cache))
    moving, staying = inputs(2)
    backend.run(network, moving, staying)
    backend.wait()
    for _ in range(3):
        expected = network.module()(**moving, **staying)["output"]
        assert backend.ready(network, moving, staying)
        torch.testing.assert_close(backend.run(network, moving, staying)["output"], expected)
        with model.residency.changing(DENOISER):
            network.weight.mul_(1.5)
    assert backend.news() == []
    backend.close()
    (stored,) = tmp_path.glob("*.engine")
    written = stored.stat().st_mtime_ns

    other, loads_only = SmallNetwork(), Inductor(cache)
    other.weight.copy_(torch.randn(4, 4))
    loads_only.stop()  # nothing is compiled any more
    backend = backend_with(tiny_model(), loads_only)
    backend.run(other, moving, staying)
    backend.wait()
    assert backend.ready(other, moving, staying), backend.news()
    expected = other.module()(**moving, **staying)["output"]
    torch.testing.assert_close(backend.run(other, moving, staying)["output"], expected)
    assert stored.stat().st_mtime_ns >= written
    backend.close()


@torch.inference_mode()
def test_what_cannot_be_compiled_as_a_whole_is_told(tmp_path: Path) -> None:
    backend, network = backend_with(tiny_model(), Inductor(EngineCache(tmp_path))), BranchingNetwork()
    moving, staying = inputs(2)
    backend.run(network, moving, staying)
    backend.wait()
    assert not backend.ready(network, moving, staying)
    (news,) = backend.news()
    assert news.startswith("compile cannot run the branching; PyTorch does, more slowly: the compiler failed: ")
    assert not any(tmp_path.iterdir())
    backend.close()


@pytest.mark.parametrize("factor", [1.2, float("nan")])
def test_what_gives_other_numbers_than_the_network_is_refused(factor: float) -> None:
    module, examples = Small(SmallNetwork().weight), {"rows": torch.zeros(2, 4), "shift": torch.zeros(2, 4)}
    _check_same(module, module, examples)
    with pytest.raises(RuntimeError, match="differs from the network by"):
        _check_same(lambda **given: {"output": factor * module(**given)["output"]}, module, examples)


def test_what_differs_neither_serves_nor_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inductor, module = Inductor(EngineCache(tmp_path)), Small(SmallNetwork().weight)
    facts = {"arguments": [(False, "rows"), (False, "shift")], "outputs": ["output"]}
    monkeypatch.setattr(inductor, "_built", lambda *_: b"")
    monkeypatch.setattr("pipeline.backends.inductor._read", lambda _: (facts, lambda rows, shift: [rows + shift]))
    with pytest.raises(RuntimeError, match="differs from the network by"):
        inductor(module, {"rows": torch.zeros(2, 4), "shift": torch.zeros(2, 4)})
    assert not any(tmp_path.iterdir())


def test_a_damaged_engine_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inductor, module = Inductor(EngineCache(tmp_path)), Small(SmallNetwork().weight)
    examples = {"rows": torch.zeros(2, 4), "shift": torch.zeros(2, 4)}
    asked = []

    def built(*_: object) -> bytes:
        asked.append(1)
        return b"nothing that could be loaded"

    monkeypatch.setattr(inductor, "_built", built)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be loaded"):
            inductor(module, examples)
    assert len(asked) == 2, "what cannot be loaded is not kept"


def test_a_stop_ends_the_process_that_compiles(tmp_path: Path) -> None:
    inductor, module = Inductor(EngineCache(tmp_path)), Small(SmallNetwork().weight)
    problems: list[BaseException] = []

    def build() -> None:
        try:
            inductor(module, {"rows": torch.zeros(2, 4), "shift": torch.zeros(2, 4)})
        except RuntimeError as error:
            problems.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    while not inductor._processes._running and thread.is_alive():
        time.sleep(0.01)
    (process,) = inductor._processes._running
    inductor.stop()
    thread.join()
    assert problems
    assert not psutil.pid_exists(process.pid)
    with pytest.raises(RuntimeError, match="not wanted any more"):
        inductor(module, {"rows": torch.zeros(3, 4), "shift": torch.zeros(3, 4)})


def test_nobody_compiles_for_one_that_is_gone(tmp_path: Path) -> None:
    inductor = Inductor(EngineCache(tmp_path))
    process = inductor._processes.start()
    assert process.poll() is None
    del inductor
    gc.collect()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL or sys.platform == "win32"


PROGRAM = """
import pickle, subprocess, sys, time
from pathlib import Path
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.inductor import Inductor

class Work:
    def __reduce__(self):
        return subprocess.run, ([sys.executable, "-c", WORKER],)

WORKER = "import os, pathlib, time; pathlib.Path(FOLDER, 'worker').write_text(str(os.getpid())); time.sleep(100)"
WORKER = WORKER.replace("FOLDER", repr(sys.argv[1]))
inductor = Inductor(EngineCache(Path(sys.argv[1])))
compiler = inductor._processes.start()
compiler.stdin.write(pickle.dumps(Work()))
compiler.stdin.flush()
print(compiler.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_however_the_program_ends_no_compiler_is_left(way: signal.Signals, tmp_path: Path) -> None:
    """Nor what it has started for its work."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert program.stdout is not None
    compiler, noted = psutil.Process(int(program.stdout.readline())), tmp_path / "worker"
    while not noted.exists() or not noted.read_text():
        assert compiler.is_running()
        time.sleep(0.05)
    worker = psutil.Process(int(noted.read_text()))
    program.send_signal(way)
    program.wait(30)
    program.stdout.close()
    for one in (compiler, worker):
        while one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AccelerationError, match=r"install g\+\+"):
        check_compiler(tiny_model())
    monkeypatch.undo()
    monkeypatch.delattr(torch._inductor, "standalone_compile")
    with pytest.raises(AccelerationError, match=r"torch 2\.8"):
        check_compiler(tiny_model())


def test_models_of_one_shape_share_what_is_compiled_wherever_they_were_read_from() -> None:
    """A fine-tune's configuration names another place, and maybe another version that wrote it."""
    models = [new_tiny_model(), new_tiny_model()]
    for number, model in enumerate(models):
        model.unet.register_to_config(_name_or_path=f"somebody/fine-tune-{number}", _diffusers_version=f"0.{number}")  # type: ignore[operator]
    keys = {_key(DenoiserNetwork(model).module(), (), torch.device("cpu")) for model in models}
    assert len(keys) == 1
    models[1].unet.register_to_config(center_input_sample=True)  # type: ignore[operator]
    assert _key(DenoiserNetwork(models[1]).module(), (), torch.device("cpu")) not in keys
