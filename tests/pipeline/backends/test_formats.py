"""In which number format OpenVINO calculates: what was asked for, what was measured, what the processor says."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app import doctor
from app.engine import load_engine
from app.settings import Settings
from pipeline import Stream, StreamConfig
from pipeline.backends import accelerate
from pipeline.backends.engine_cache import EngineCache
from pipeline.backends.openvino import trial
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.backends.openvino.formats import EIGHT_BIT_PARTS, Format, Times, Trials, _this_processor, format_for
from pipeline.backends.openvino.package import is_installed
from tests.pipeline.pictures import psnr, sample_frame
from tests.tiny_model import tiny_model, write_tiny_model

pytestmark = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")

DECODER = ("decoder",)


def times(*milliseconds: float) -> Times:
    return dict(zip(trial.FORMATS, milliseconds, strict=False))


def remember(folder: Path, *milliseconds: float) -> Trials:
    """What a trial on this processor would have left in ``folder``."""
    (folder / "formats.json").write_text(json.dumps({_this_processor(): times(*milliseconds)}))
    return Trials(folder)


# Measured on an Intel Xeon, with more and more of its instructions switched off.
@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        pytest.param((3.84, 1.37, 1.39, 1.10), Format(torch.bfloat16, DECODER), id="AMX"),
        pytest.param((2.75, 4.45, 1.33, 1.49), Format(torch.float32, EIGHT_BIT_PARTS), id="AVX512_BF16"),
        pytest.param((2.77, 19.8, 1.15, 10.2), Format(torch.float32, EIGHT_BIT_PARTS), id="VNNI"),
        pytest.param((2.0, 1.1, 0.9, 0.7), Format(torch.bfloat16, EIGHT_BIT_PARTS), id="eight bits over bfloat16"),
        pytest.param((2.0, 1.9, 3.0, 2.0), Format(torch.float32), id="nothing pays"),
        pytest.param((2.0, 0.61, 1.0, 0.62), Format(torch.bfloat16, DECODER), id="AMX, timed beside a build"),
        pytest.param((2.0,), Format(torch.float32), id="nothing else can be had"),
    ],
)
def test_the_fastest_by_the_trial_is_taken(measured: tuple[float, ...], expected: Format) -> None:
    assert format_for("CPU", None, times(*measured)) == expected


@pytest.mark.parametrize("asked", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_asked_for_is_obeyed(asked: torch.dtype) -> None:
    for measured in (None, times(9.0, 1.0, 5.0, 0.5), times(1.0, 9.0, 0.5, 5.0)):
        assert format_for("CPU", asked, measured).floating == asked
    assert format_for("CPU", torch.float16, times(9.0, 1.0)) == format_for("CPU", torch.float16, None)


@pytest.mark.parametrize(
    ("amx", "abilities", "expected"),
    [
        (True, set(), Format(torch.bfloat16, DECODER)),
        (False, {"avx512_bf16"}, Format(torch.bfloat16, DECODER)),
        (False, {"avx512_vnni"}, Format(torch.float32, EIGHT_BIT_PARTS)),
    ],
)
def test_before_a_trial_the_processor_is_asked(
    monkeypatch: pytest.MonkeyPatch, amx: bool, abilities: set[str], expected: Format
) -> None:
    monkeypatch.setattr("pipeline.backends.openvino.formats.cpu_has_amx", lambda: amx)
    monkeypatch.setattr("pipeline.backends.openvino.formats.cpu_abilities", lambda: frozenset(abilities))
    assert format_for("CPU", None, None) == expected


def test_a_trial_is_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "made when it is needed"
    trials = Trials(folder)
    assert trials.times() is None
    trials.run()
    found = Trials(folder).times()
    assert found is not None
    assert found.keys() <= trial.FORMATS.keys()
    assert "float32" in found
    stored = json.loads((folder / "formats.json").read_text())
    (folder / "formats.json").write_text(json.dumps({"of another processor": stored.popitem()[1]}))
    assert trials.times() is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"%s": 1}', '{"%s": {"float32": "fast"}}', '{"%s": {"int3": 1.0}}']
)
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "formats.json").write_text(content.replace("%s", _this_processor()))
    assert Trials(tmp_path).times() is None


def test_a_trial_that_fails_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(3)")
    monkeypatch.setattr(trial, "__file__", str(script))
    trials = Trials(tmp_path)
    with caplog.at_level(logging.WARNING):
        trials.run()
    assert "could not be tried out" in caplog.text
    assert trials.times() is None


def test_engines_calculate_in_what_was_measured_and_pytorch_in_its_own(tmp_path: Path) -> None:
    frame, config = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), StreamConfig(prompt="a", steps=1)
    pictures = {}
    exact = Stream(tiny_model(), config)(frame).image
    for fast, measured in (("float32", (1.0, 9.0)), ("bfloat16", (9.0, 1.0))):
        model = replace(tiny_model(), dtype_asked=False)
        backend = OpenVinoBackend(model, "CPU", EngineCache(tmp_path), remember(tmp_path, *measured))
        assert backend.numbers == fast
        stream = Stream(model, config, backend)
        assert torch.equal(stream(frame).image, exact)
        backend.wait()
        pictures[fast] = stream(frame).image
        backend.close()
    assert torch.allclose(pictures["float32"], exact, atol=2e-3)
    assert 30 < psnr(pictures["bfloat16"], exact) < 70


def test_the_report_says_what_engines_calculate_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    settings = Settings(model=str(write_tiny_model(tmp_path / "tiny")), device="cpu", acceleration="openvino")
    for fast, measured in (("float32", (1.0, 9.0)), ("bfloat16", (9.0, 1.0))):
        remember(tmp_path, *measured)
        for asked, expected in (("auto", fast), ("float32", "float32"), ("bfloat16", "bfloat16")):
            loaded = load_engine(replace(settings, dtype=asked))
            assert loaded.facts.dtype == expected
            loaded.release()


def test_the_doctor_says_whether_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    monkeypatch.setattr("pipeline.device.available_devices", lambda: ["cpu"])
    (found,) = (finding for finding in doctor.findings() if finding.title == "OpenVINO")
    assert "the first start measures it" in found.detail
    remember(tmp_path, 9.0, 1.0, 3.0, 0.5)
    (found,) = (finding for finding in doctor.findings() if finding.title == "OpenVINO")
    assert "calculates in bfloat16, and in int8 in the encoder, decoder and unet of" in found.detail
    assert "as it measured here: float32 9.0 ms, bfloat16 1.0 ms" in found.detail


def test_the_first_start_tries_and_the_next_one_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path))
    tried = []
    run = Trials.run
    monkeypatch.setattr(Trials, "run", lambda trials: (tried.append(1), run(trials)))
    for _ in range(2):
        model = tiny_model()
        backend = accelerate(model, "openvino")
        Stream(model, StreamConfig(prompt="a", steps=1), backend)(sample_frame())
        backend.wait()
        backend.close()
    assert tried == [1]
    assert Trials().times() is not None
