"""``vitrail bench``: every figure is there, and every misuse is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from app.cli import main
from app.commands.advice import Row, advice, further_sizes
from app.commands.bench import SPARSE_PERCENT
from app.energy import EnergyMeter
from pipeline import Stream
from pipeline.device import choose_dtype, number_format
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


def bench(*flags: object) -> int:
    given = [*map(str, flags)]
    if "--acceleration" not in given:  # to build engines would take longer than all else
        given += ["--acceleration", "eager"]
    return main(["bench", "--seconds", "0.01", "--device", "cpu", *given])


def test_a_table_and_a_file_of_all_figures(capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert bench("--model", tiny, "--size", 64, 72, "--steps", 1, 3, "--json", out) == 0
    report = json.loads(out.read_text())
    assert [(row["size"], row["steps"]) for row in report["rows"]] == [(64, 1), (64, 3), (72, 1), (72, 3)]
    for row in report["rows"]:
        assert row["acceleration"] == "eager"
        assert row["numbers"] == number_format(choose_dtype(torch.device("cpu")))
        assert row["fps"] > 0
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
        assert all(row["stages_ms"][name] > 0 for name in ("encode", "unet", "decode"))
        assert row["memory_mb"] > 0
    one, three = (row for row in report["rows"] if row["size"] == 64)
    # With three steps a picture comes three calls after its frame.
    assert three["latency_ms"]["p50"] > 2 * 1e3 / three["fps"]
    assert one["latency_ms"]["p50"] < 2 * 1e3 / one["fps"]
    table = capsys.readouterr().out
    assert f"{one['fps']:.1f}" in table
    assert f"{three['fps']:.1f}" in table
    assert "3 steps, acceleration eager (" in report["advice"][1], "more steps are better"
    assert all(sentence in table for sentence in report["advice"])


@pytest.mark.parametrize(("fps", "sizes"), [(1000, [64]), (0.001, [64, 96, 128])])
def test_sizes_that_are_measured_by_themselves(tiny: str, tmp_path: Path, fps: float, sizes: list[int]) -> None:
    """The model's own; larger ones where it leaves room; smaller ones, where there are any, where it is too slow."""
    out = tmp_path / "figures.json"
    assert bench("--model", tiny, "--steps", 2, 1, "--fps", fps, "--json", out) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["size"], row["steps"]) for row in rows] == [(64, 2), (64, 1), *((size, 1) for size in sizes[1:])]


def test_the_steps_that_the_model_recommends_are_measured(tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert bench("--model", tiny, "--fps", 1000, "--json", out) == 0
    assert {row["steps"] for row in json.loads(out.read_text())["rows"]} == {1, 2, 4}


def row(size: int, steps: int, fps: float, acceleration: str = "eager", changes: float | None = None) -> Row:
    return Row(size, steps, acceleration, "float32", fps, {"p50": 1e3 / fps, "p95": 2e3 / fps}, {}, 100, None, changes)


MEASURED = [
    row(512, 1, 30), row(512, 2, 20), row(512, 4, 9), row(384, 1, 50), row(768, 1, 12),
    row(512, 1, 33, "openvino"), row(512, 2, 26, "openvino"), row(512, 4, 8, "openvino"), row(512, 4, 90, changes=5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fps", "own_steps", "fast", "best"),
    [
        (
            24,
            4,
            "size 512, 2 steps, acceleration openvino (26 a second, 38 ms",
            "size 512, 4 steps, acceleration eager",
        ),
        (40, 4, "size 384, 1 step, acceleration eager (50 a second", "size 512, 4 steps, acceleration eager"),
        (24, 1, "size 512, 1 step, acceleration openvino (33 a second", "size 512, 1 step, acceleration openvino"),
        (5, None, "size 512, 4 steps, acceleration eager (9 a second", "size 512, 4 steps, acceleration eager"),
    ],
)
def test_advice(fps: float, own_steps: int | None, fast: str, best: str) -> None:
    first, second = advice(MEASURED, fps, 512, own_steps)
    assert first.startswith(f"For {fps:g} pictures a second: {fast}")
    assert second.startswith(f"For the best picture: {best}")


def test_a_larger_picture_that_is_fast_enough_is_taken() -> None:
    first, _ = advice([*MEASURED, row(768, 2, 25, "openvino")], 24, 512, 2)
    assert "size 768, 2 steps" in first


def test_advice_where_nothing_is_fast_enough_or_the_steps_are_not_those_of_the_model() -> None:
    first, second = advice(MEASURED, 100, 512, 10)
    assert first.startswith("Nothing that was measured gives 100 pictures a second; the fastest is size 384, 1 step,")
    assert second.endswith("This model is made for 10 steps; to measure them: --steps 10.")


@pytest.mark.parametrize(
    ("fastest", "own", "sizes"), [(20, 512, [384, 256]), (30, 512, []), (60, 512, [768]), (200, 512, [768, 1024]),
                                  (1, 64, [])]
)  # fmt: skip
def test_further_sizes(fastest: float, own: int, sizes: list[int]) -> None:
    assert further_sizes(fastest, 24, own) == sizes


def test_every_acceleration_that_is_there_is_measured_once(
    tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.commands.bench.ACCELERATIONS", ("auto", "eager", "cuda-graphs", "tensorrt"))
    out = tmp_path / "figures.json"
    arguments = ["--model", tiny, "--size", "64", "--steps", "1", "--seconds", "0.01", "--device", "cpu"]
    assert main(["bench", *arguments, "--json", str(out)]) == 0
    assert [one["acceleration"] for one in json.loads(out.read_text())["rows"]] == ["eager"]
    assert "cuda" not in capsys.readouterr().err.lower(), "nobody has asked for it"


def test_sparse_inference_is_measured_beside_the_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    stages = Stream.stages_ms

    def looked(stream: Stream) -> dict[str, float]:
        if stream.sparse is not None and stream.sparse.active is not None:
            shares.append(float(stream.sparse.active.mean()))
        return stages(stream)

    monkeypatch.setattr(Stream, "stages_ms", looked)
    out = tmp_path / "figures.json"
    assert bench("--size", 256, "--steps", 1, "--acceleration", "eager", "--sparse", 4, 100, "--json", out) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["changes"] for row in rows] == [None, 4, 100]
    assert rows[0]["speed"] == 1
    assert 0.04 <= shares[0] < 0.1, "just the square has changed"
    assert shares[1] == 1
    table = capsys.readouterr().out
    assert "4 %" in table
    assert "\u2026" not in table, "all of it is there"


def test_shares_that_sparse_inference_is_measured_at_by_itself(tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert bench("--model", tiny, "--size", 64, "--steps", 1, "--sparse", "--json", out) == 0
    assert [row["changes"] for row in json.loads(out.read_text())["rows"]] == [None, *SPARSE_PERCENT]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sparse", "0"], "above 0 and at most 100 percent"),
        (["--sparse", "5", "nan"], "above 0 and at most 100 percent"),
        (["--sparse", "101"], "above 0 and at most 100 percent"),
        (["--sparse", "much"], "invalid float value"),
        (["--size", "100"], "multiple of 8 between 64 and 4096"),
        (["--size", "9999992"], "multiple of 8 between 64 and 4096"),
        (["--size", "x"], "invalid int value"),
        (["--steps", "0"], "must be between 1 and 50"),
        (["--seconds", "-1"], "must be above 0"),
        (["--fps", "0"], "must be above 0"),
        (["--fps", "nan"], "must be above 0"),
        (["--seconds", "nan"], "must be above 0"),
        (["--model", "nowhere"], "there is no model 'nowhere'"),
        (["--device", "toaster"], "toaster"),
        (["--dtype", "int3"], "int3"),
        (["--json", "/nowhere/at/all.json"], "/nowhere/at"),
    ],
)
def test_misuse_is_one_line(capsys: pytest.CaptureFixture[str], flags: list[str], words: str) -> None:
    assert main(["bench", *flags]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_an_acceleration_that_is_not_there(capsys: pytest.CaptureFixture[str], tiny: str) -> None:
    assert bench("--model", tiny, "--acceleration", "warp") == 2
    assert "must be one of auto, eager" in capsys.readouterr().err
    assert bench("--model", tiny, "--acceleration", "warp", "eager", "--size", 64, "--steps", 1) == 0
    assert "must be one of auto, eager" in capsys.readouterr().err


def write_zone(root: Path, name: str, microjoules: int) -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "energy_uj").write_text(f"{microjoules}\n")
    (root / name / "max_energy_range_uj").write_text("9000000\n")


def test_energy_is_that_of_whole_packages_and_survives_a_turn_of_the_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.energy._RAPL", tmp_path)
    for name, value in (("intel-rapl:0", 8_000_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 5_000_000)):
        write_zone(tmp_path, name, value)
    write_zone(tmp_path, "intel-rapl:2", 0)
    (tmp_path / "intel-rapl:2" / "name").write_text("psys\n")  # the machine, with both packages in it
    meter = EnergyMeter("cpu")
    assert meter.source == "RAPL"
    write_zone(tmp_path, "intel-rapl:0", 1_000_000)
    write_zone(tmp_path, "intel-rapl:1", 500_000)
    write_zone(tmp_path, "intel-rapl:0:0", 8_000_000)
    write_zone(tmp_path, "intel-rapl:2", 6_000_000)
    assert meter.joules() == pytest.approx(2.5)


def test_energy_that_cannot_be_read_is_not_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.energy._RAPL", tmp_path)
    assert EnergyMeter("cpu").joules() is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("nonsense")
    assert EnergyMeter("cpu").joules() is None
    assert EnergyMeter("mps").joules() is None
