"""The command line in this process: every misuse is one line and exit code 2, and rendering does what it says."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import av
import cv2
import numpy as np
import pytest
from PIL import Image

import app.cli
import app.commands.logs
import app.settings
from app.cli import main
from app.commands.options import settings_from, without_effect
from app.commands.parser import SOURCE_WORDS, build_parser
from app.commands.render import choose_sink, probe
from app.metrics import Metrics
from app.settings import Settings
from app.settings_file import save
from app.sinks import ImageSink, VideoSink
from app.sources import open_source
from app.standing import Values
from pipeline.backends.openvino.package import is_installed
from pipeline.config import StreamConfig
from tests.app.media import add_clicks, cards, clicks, write_clip
from tests.corpus_video import joined, transport_stream
from tests.tiny_model import write_tiny_model

NO_MODEL_NEEDED = ["--model", "nowhere"]  # were it loaded, that would be the complaint


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's settings nor the user's log is touched."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setattr(app.commands.logs.platformdirs, "user_log_dir", lambda *_, **__: str(home / "log"))
    monkeypatch.setattr(app.settings.platformdirs, "user_config_dir", lambda *_, **__: str(home / "config"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that is small and knows nothing."""
    return str(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", sees_input=True))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", cards(9))


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that went to stderr."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("vitrail: ")
    assert "Traceback" not in lines[0]
    return lines[0]


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run with these arguments, which must be refused; gives the complaint."""
    assert main([str(argument) for argument in arguments]) == 2
    return complaint(capsys)


def read_picture(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return pixels


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


# -- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--strength", "1.7"], "strength is 1.7; it must be between 0.05 and 1"),
        (["--strength", "nan"], "strength is nan"),
        (["--strength", "inf"], "strength is inf"),
        (["--strength", "strong"], "--strength"),
        (["--steps", "0"], "steps is 0; it must be between 1 and 50"),
        (["--steps", "1.5"], "--steps"),
        (["--solver", "magic"], "solver is 'magic'; it must be one of lcm"),
        (["--guidance", "more"], "guidance is 'more'"),
        (["--guidance-scale", "-1"], "guidance scale is -1"),
        (["--width", "8"], "width is 8; it must be at least 64 pixels"),
        (["--height", "-64"], "height is -64; it must be at least 64 pixels"),
        (["--width", "100000"], "width is 100000"),
        (["--frame-buffer", "0"], "frame buffer is 0"),
        (["--fit", "squeeze"], "fit is 'squeeze'"),
        (["--device", "toaster"], "device is 'toaster'"),
        (["--seed", "-1"], "seed is -1"),
        (["--timesteps", "99,199"], "timesteps are '99,199'; they must be whole numbers from 0 to 1000"),
        (["--lora", "a.safetensors:99"], "strength of a.safetensors is 99; it must be between -10 and 10"),
        (["--sparkle"], "--sparkle"),
    ],
)
def test_a_value_that_cannot_be(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, flags: list[str], words: str
) -> None:
    assert words in refuse(capsys, "render", clip, tmp_path / "out.mp4", *flags)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("command", [["render"], ["render", "in.mp4"], ["dance"], ["demo", "--frames", "x"]])
def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert "--help" in refuse(capsys, *command)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "no frames", "audio only", "empty folder", "a bad word"])
def test_an_input_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "in.mp4"
    words = {
        "missing": "No such file",
        "empty": "empty",
        "text": "not a video",
        "no frames": "frame",
        "audio only": "only sound",
        "empty folder": "no pictures",
        "a bad word": "is no file or folder",
    }[kind]
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is a letter, not a video. " * 100, encoding="utf-8")
    elif kind == "no frames":
        whole = write_clip(tmp_path / "whole.mkv", cards(3)).read_bytes()
        path = tmp_path / "in.mkv"
        path.write_bytes(whole[: whole.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster: a header, no data
    elif kind == "audio only":
        with av.open(str(path), "w") as container:
            add_clicks(container, "aac", 1.0)
    elif kind == "empty folder":
        path = tmp_path / "folder"
        path.mkdir()
    spec = "sparkle" if kind == "a bad word" else path
    assert words in refuse(capsys, "render", spec, tmp_path / "out.mp4", *NO_MODEL_NEEDED)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("kind", ["no folder", "a folder", "the input", "unknown kind", "a picture of many"])
def test_an_output_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, kind: str
) -> None:
    output, words = {
        "no folder": (tmp_path / "nowhere" / "out.mp4", "there is no folder"),
        "a folder": (tmp_path, "is a folder"),
        "the input": (clip, "is also the input"),
        "unknown kind": (tmp_path / "out.txt", "not a kind of video"),
        "a picture of many": (tmp_path / "out.png", "is one picture"),
    }[kind]
    before = clip.read_bytes()
    assert words in refuse(capsys, "render", clip, output, *NO_MODEL_NEEDED)
    assert clip.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may write anywhere")
def test_an_output_without_permission(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "ermission" in refuse(capsys, "render", clip, tmp_path / "out.mp4", *NO_MODEL_NEEDED)
    finally:
        tmp_path.chmod(0o700)


def _forbidden(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_an_output_folder_that_may_not_be_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "iterdir", _forbidden)
    words = refuse(capsys, "render", clip, f"{tmp_path}/", *NO_MODEL_NEEDED)
    assert f"The folder {tmp_path} cannot be listed: Permission denied." in words


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
def test_an_output_behind_a_link_that_may_not_be_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(os, "readlink", _forbidden)
    assert "there is no model 'nowhere'" in refuse(
        capsys, "render", clip, tmp_path / "link" / "o.mp4", "--prompt", "x", *NO_MODEL_NEEDED
    )


def test_a_model_folder_without_permission(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    stat = os.stat

    def guarded(path: Any, *arguments: Any, **named: Any) -> os.stat_result:
        if str(path).startswith(f"{model}{os.sep}"):
            _forbidden()
        return stat(path, *arguments, **named)

    monkeypatch.setattr(os, "stat", guarded)
    words = refuse(capsys, "render", clip, tmp_path / "o.mp4", "--prompt", "x", "--model", model)
    assert f"{model} cannot be read: Permission denied" in words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["render", "IN", "OUT", "--model", ""], "model is ''; it must be 'embedded', a folder"),
        (["render", "IN", "OUT", "--model", " "], "model is ' '; it must be"),
        (["bench", "--model", ""], "argument --model: '' names no model"),
        (["render", "IN", "OUT", "--report", ""], "argument --report: '' names nothing"),
        (["render", "", "OUT"], "argument IN: '' names nothing"),
        (["render", "IN", ""], "argument OUT: '' names nothing"),
        (["render", "IN", " "], "argument OUT: ' ' names nothing"),
        (["demo", "--out-dir", ""], "argument --out-dir: '' names nothing"),
        (["bench", "--json", ""], "argument --json: '' names nothing"),
        (["--source", ""], "argument --source: '' names nothing"),
        ([""], "'' is neither a command"),
        (["render", "http://localhost:1/x.mp4", "OUT"], "is an address, and addresses are not read"),
        (["http://localhost:1/x.mp4"], "is an address, and addresses are not read"),
        (["render", "IN", "https://localhost/x.mp4"], "nothing is written to addresses"),
    ],
)
def test_what_names_no_file_is_refused(
    capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path, given: list[str], words: str
) -> None:
    names = {"IN": str(clip), "OUT": str(tmp_path / "o.mp4")}
    assert words in refuse(capsys, *[names.get(word, word) for word in given])


@pytest.mark.parametrize(
    ("given", "hinted"),
    [
        (["render", "-x.mp4", "o.mp4"], True),
        (["-x.mp4"], True),
        (["render", "in.mp4", "o.mp4", "--fps=1.5x", "--strength", "-1.5"], False),
        (["render", "in.mp4", "-n1.5"], False),
    ],
)
def test_a_file_that_looks_like_a_flag_is_hinted_at(
    capsys: pytest.CaptureFixture[str], given: list[str], hinted: bool
) -> None:
    assert ("; if -x.mp4 is a file, write ./-x.mp4" in refuse(capsys, *given)) is hinted


@pytest.mark.parametrize("word", [*SOURCE_WORDS, "camera:1", "screen:1:0,0,64,64"])
def test_a_source_alone_is_told_its_flag(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert f"`vitrail --source {word}`" in refuse(capsys, word)


@pytest.mark.parametrize("suffix", [".ico", ".jp2", ".dds"])
def test_a_picture_that_ffmpeg_alone_reads_becomes_a_picture(tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"in{suffix}"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(picture)
    source = open_source(str(picture))
    probe(source)
    assert isinstance(choose_sink(str(picture), str(tmp_path / "o.png"), source, audio=True), ImageSink)


def test_a_report_that_cannot_be_written(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "nowhere" / "report.json"
    words = refuse(capsys, "render", clip, tmp_path / "out.mp4", "--report", report, *NO_MODEL_NEEDED)
    assert "report" in words
    assert "no folder" in words


def test_an_unknown_model(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    assert "nowhere" in refuse(capsys, "render", clip, tmp_path / "out.mp4", "--prompt", "x", "--model", "nowhere")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--frames", "0"], "frames is 0"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--seconds", "-1"], "seconds is -1"),
        (["--out-dir", "nowhere"], "There is no folder nowhere"),
        (["--seconds", "1", "--frames", "1"], "not allowed with"),
    ],
)
def test_a_demo_that_cannot_be(capsys: pytest.CaptureFixture[str], flags: list[str], words: str) -> None:
    assert words in refuse(capsys, "demo", *flags)


# -- flags ------------------------------------------------------------------------------------------------------------


def test_flags_become_settings() -> None:
    flags = (
        "--prompt ink --steps 2 --similarity-filter --guidance-scale 1.5 --width 128 --mirror --no-similarity-filter"
    )
    settings, notes = settings_from(build_parser().parse_args(["render", "a", "b", *flags.split()]))
    assert settings == Settings(
        stream=StreamConfig(prompt="ink", steps=2, guidance_scale=1.5, similarity_filter=False), width=128, mirror=True
    )
    assert notes == []


def test_a_side_is_rounded_and_that_is_said() -> None:
    settings, notes = settings_from(build_parser().parse_args(["render", "a", "b", "--width", "333"]))
    assert settings.width == 336
    assert "333" in notes[0]
    assert "336" in notes[0]


@pytest.mark.parametrize(
    ("flags", "notes"),
    [
        ("--steps 2 --strength 0.5", []),
        ("--guidance full --guidance-scale 3", []),
        ("--guidance-scale 3", ["--guidance-scale had no effect: it needs --guidance"]),
        ("--tcd-gamma 0.5", ["--tcd-gamma had no effect: it needs --solver tcd"]),
        ("--sparse-overlay", ["--sparse-overlay had no effect: it needs --sparse"]),
        ("--timesteps 99,9 --steps 2", ["--steps had no effect: it needs no --timesteps"]),
        ("--reprojection on", ["--reprojection had no effect: it is for sources that do not wait"]),
    ],
)
def test_a_flag_that_does_nothing_is_named(flags: str, notes: list[str]) -> None:
    arguments = build_parser().parse_args(["render", "a", "b", *flags.split()])
    settings, _ = settings_from(arguments)
    found = without_effect(arguments, settings, live=False)
    assert len(found) == len(notes)
    assert all(words in note for note, words in zip(found, notes, strict=True))


@pytest.mark.parametrize("command", [["--help"], ["render", "--help"], ["demo", "--help"], ["--version"]])
def test_help_is_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert "vitrail" in capsys.readouterr().out


# -- render -----------------------------------------------------------------------------------------------------------


def test_every_frame_is_rendered_and_reported(
    capsys: pytest.CaptureFixture[str], tiny: str, clip: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    flags = f"--prompt ink --model {tiny} --steps 2 --frame-buffer 2 --height 64 --solver ddim --report {report}"
    assert main(["render", str(clip), str(out), *flags.split()]) == 0
    assert frame_count(out) == 9
    found = json.loads(report.read_text(encoding="utf-8"))
    assert (found["frames_in"], found["frames_out"], found["frames_dropped"]) == (9, 9, 0)
    assert (found["width"], found["height"], found["steps"], found["solver"]) == (88, 64, 2, "ddim")
    assert found["model"] == "tiny"
    assert str(out) in complaint(capsys)  # the summary; nothing else is said


def test_a_truncated_clip_is_rendered_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path
) -> None:
    whole = write_clip(tmp_path / "whole.mkv", cards(24))
    short = tmp_path / "short.mkv"
    data = whole.read_bytes()
    short.write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "out.mp4"
    assert main(["render", str(short), str(out), "--prompt", "x", "--model", tiny, "--height", "64"]) == 0
    assert 0 < frame_count(out) < 24
    assert "lost" in capsys.readouterr().err


def test_the_report_and_the_summary_name_the_size_of_the_file(
    capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path
) -> None:
    wide, high = cards(5, 128, 96), [picture.transpose(1, 0, 2).copy() for picture in cards(5, 128, 96)]
    parts = transport_stream(tmp_path / "a.ts", wide), transport_stream(tmp_path / "b.ts", high, start=0.2)
    clip, out, report = joined(tmp_path / "clip.ts", *parts), tmp_path / "out.mp4", tmp_path / "report.json"
    flags = f"--prompt x --model {tiny} --height 64 --report {report}"
    assert main(["render", str(clip), str(out), *flags.split()]) == 0
    with av.open(str(out)) as made:
        size = made.streams.video[0].width, made.streams.video[0].height
    found = json.loads(report.read_text(encoding="utf-8"))
    assert (found["width"], found["height"], found["frames_out"]) == (*size, 10)
    assert f"10 frames of {size[0]}x{size[1]}" in complaint(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a file go that is being written")
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.png", "pictures/"])
def test_success_is_not_said_of_what_is_gone(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny: str,
    clip: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """The folder is removed as the last frame is counted, before the file is finished."""
    folder = tmp_path / "folder"
    folder.mkdir()
    source = clip
    if name == "out.png":
        source = tmp_path / "in.png"
        cv2.imwrite(str(source), cards(1)[0])
    shown = Metrics.shown

    def remove_after(self: Metrics, *arguments: Any) -> None:
        shown(self, *arguments)
        if self.snapshot().frames_out == (1 if name == "out.png" else 9):
            shutil.rmtree(folder)

    monkeypatch.setattr(Metrics, "shown", remove_after)
    output = f"{folder}/{name}"
    assert main(["render", str(source), output, "--prompt", "x", "--model", tiny, "--height", "64"]) == 2
    assert "was deleted or moved while it was written" in complaint(capsys)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_is_told_once(capsys: pytest.CaptureFixture[str], tiny: str, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.symlink_to("/dev/full")
    assert main(["render", str(clip), str(out), "--prompt", "x", "--model", tiny, "--height", "64"]) == 2
    assert "the disk is full" in complaint(capsys)


def test_a_disk_that_is_full_at_the_very_end_is_told_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: str, clip: Path, tmp_path: Path
) -> None:
    def full(_: VideoSink) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoSink, "_check", full)  # the last of what an end does
    out = tmp_path / "out.mp4"
    assert main(["render", str(clip), str(out), "--prompt", "x", "--model", tiny, "--height", "64"]) == 2
    assert f"The end of {out} could not be written: the disk is full." in complaint(capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders on Windows")
def test_pipes_are_no_clips_and_no_outputs(capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    assert main(["render", str(pipe), str(tmp_path / "out.mp4"), *NO_MODEL_NEEDED]) == 2
    assert "it is no ordinary file" in complaint(capsys)
    assert main(["render", str(clip), str(pipe), *NO_MODEL_NEEDED]) == 2
    assert "cannot be written: it is no ordinary file" in complaint(capsys)


@pytest.mark.parametrize("size", [(333, 251), (65, 64), (64, 201)])
def test_odd_sizes_are_rendered(tiny: str, tmp_path: Path, size: tuple[int, int]) -> None:
    clip = write_clip(tmp_path / "odd.mp4", cards(2, *size))
    out = tmp_path / "out.mp4"
    assert main(["render", str(clip), str(out), "--prompt", "x", "--model", tiny]) == 0
    assert frame_count(out) == 2


@pytest.mark.parametrize("audio", [True, False])
def test_the_sound_is_kept_unless_it_is_not_wanted(tiny: str, tmp_path: Path, audio: bool) -> None:
    clip = write_clip(tmp_path / "loud.mp4", cards(12), fps=6, sound="aac", sound_seconds=2.0)
    out = tmp_path / "out.mp4"
    flags = [] if audio else ["--no-audio"]
    assert main(["render", str(clip), str(out), "--prompt", "x", "--model", tiny, "--height", "64", *flags]) == 0
    if audio:
        assert clicks(out) == pytest.approx(clicks(clip), abs=0.05)
    else:
        with av.open(str(out)) as container:
            assert not container.streams.audio


def test_a_picture_becomes_a_picture(tiny: str, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    cv2.imwrite(str(picture), cards(1)[0])
    out = tmp_path / "out.png"
    assert main(["render", str(picture), str(out), "--prompt", "x", "--model", tiny, "--height", "64"]) == 0
    assert read_picture(out).shape == (64, 88, 3)


def test_a_folder_becomes_a_folder(tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, picture in enumerate(cards(3)):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    out = tmp_path / "out"
    assert main(["render", str(folder), str(out), "--prompt", "x", "--model", tiny, "--height", "64"]) == 0
    assert len(list(out.iterdir())) == 3


def test_a_video_becomes_a_folder_where_a_slash_says_so(tiny: str, clip: Path, tmp_path: Path) -> None:
    assert main(["render", str(clip), f"{tmp_path / 'out'}/", "--prompt", "x", "--model", tiny, "--height", "64"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 9


def test_pictures_of_an_earlier_render_are_told(
    capsys: pytest.CaptureFixture[str], tiny: str, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for number in range(1, 21):
        (out / f"frame_{number:06d}.png").touch()
    assert main(["render", str(clip), f"{out}/", "--prompt", "x", "--model", tiny, "--height", "64"]) == 0
    assert f"{out}/ has 11 older numbered pictures in it" in " ".join(capsys.readouterr().err.split())
    assert len(list(out.iterdir())) == 20


def test_a_disk_that_fills_up_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: str, clip: Path, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    out = f"{tmp_path / 'out'}/"
    assert main(["render", str(clip), out, "--prompt", "x", "--model", tiny, "--height", "64"]) == 2
    assert "No space left" in complaint(capsys)


def test_the_unforeseen_is_one_line_and_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("app.commands.render.probe", broken)
    assert main(["render", str(clip), str(tmp_path / "out.mp4")]) == 1
    line = complaint(capsys)
    assert "ZeroDivisionError: oops" in line
    log = Path(line.rpartition(" ")[2])
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_ctrl_c_is_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.commands.render.probe", interrupt)
    assert main(["render", "testcard", str(tmp_path / "out.mp4")]) == 130
    assert "interrupted" in complaint(capsys)


# -- demo -------------------------------------------------------------------------------------------------------------


def test_the_demo_writes_a_clip_and_a_sheet(capsys: pytest.CaptureFixture[str], tiny: str, tmp_path: Path) -> None:
    assert main(["demo", "--out-dir", str(tmp_path), "--frames", "7", "--model", tiny, "--height", "64"]) == 0
    assert frame_count(tmp_path / "vitrail-demo.mp4") == 7
    sheet = read_picture(tmp_path / "vitrail-demo.png")
    assert sheet.shape[1] > 3 * sheet.shape[0]  # six styles beside each other
    said = capsys.readouterr().err
    assert "vitrail-demo.mp4" in said
    assert "vitrail-demo.png" in said


# -- the app ----------------------------------------------------------------------------------------------------------


def test_without_a_display_it_says_what_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.cli.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    line = refuse(capsys)
    assert "`vitrail demo`" in line
    assert "`vitrail render`" in line


def test_without_qt_it_says_what_works(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setitem(sys.modules, "ui.main", None)  # what Python does for a module that cannot be imported
    line = refuse(capsys)
    assert "`vitrail demo`" in line


def test_the_app_opens_with_the_saved_settings_and_the_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Values, str | None]] = []
    shown: list[str] = []

    class FakeWindow:
        @staticmethod
        def run(chosen: Values, source: str | None, notes: list[str]) -> int:
            opened.append((chosen, source))
            shown.extend(notes)
            return 0

    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setitem(sys.modules, "ui.main", FakeWindow)  # pyright: ignore[reportArgumentType]
    path = app.settings.default_path()
    save({"mirror": True}, path)
    assert main(["--source", "testcard"]) == 0
    path.write_text("{", encoding="utf-8")
    assert main([]) == 0
    assert opened == [({"mirror": True}, "testcard"), ({}, None)]
    assert len(shown) == 1
    assert "damaged" in complaint(capsys)


@pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
@pytest.mark.parametrize("flags", ["--steps 2"])
def test_the_same_render_twice_gives_the_same_pictures(
    flags: str, tiny: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long engines take to build, and however busy the machine is: a film has one look."""
    films = []
    for name in ("one", "two"):
        monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / f"cache of {name}"))
        chosen = ["--prompt", "x", "--model", tiny, "--height", "64", "--acceleration", "openvino", *flags.split()]
        assert main(["render", str(clip), f"{tmp_path / name}/", *chosen]) == 0
        films.append([path.read_bytes() for path in sorted((tmp_path / name).glob("*.png"))])
    assert len(films[0]) == 9
    assert films[0] == films[1]
