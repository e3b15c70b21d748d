"""Video files as sinks: playable whatever happens, in time, with their sound."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from app.frame import Frame
from app.sinks import SinkError, VideoSink
from app.sinks import watch as watch_module
from app.sources.testcard import read_index
from app.sources.video import VideoSource
from tests.app.media import cards, clicks, frames_of, write_clip

REPOSITORY = Path(__file__).parents[3]


def write(sink: VideoSink, pictures: list[np.ndarray], fps: float | None = 24) -> None:
    sink.open()
    for index, picture in enumerate(pictures):
        sink.write(Frame(index, 100 + index / 10, picture, media_time=index / fps if fps else None))
    sink.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_every_frame_is_there_with_its_time_and_colours(tmp_path: Path, suffix: str):
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, nominal_fps=lambda: 24.0)
    write(sink, cards(20))
    source = VideoSource(path)
    frames = list(frames_of(source))
    assert [read_index(frame.pixels) for frame in frames] == list(range(20))
    assert [frame.media_time for frame in frames] == pytest.approx([n / 24 for n in range(20)], abs=0.001)
    assert np.median(np.abs(frames[0].pixels.astype(int) - cards(1)[0])) <= 4
    assert source.fps == pytest.approx(24, rel=0.01)
    assert (source.lost, sink.lost) == (None, None)


def test_it_is_h264_that_every_player_shows(tmp_path: Path):
    write(VideoSink(tmp_path / "out.mp4"), cards(3))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        # A clean end leaves an ordinary file: all frames in one index, none in fragments.
        assert stream.frames == 3


def test_red_stays_red(tmp_path: Path):
    red = np.full((64, 64, 3), (220, 30, 40), np.uint8)
    write(VideoSink(tmp_path / "red.mp4"), [red])
    pixels = next(frames_of(VideoSource(tmp_path / "red.mp4"))).pixels
    assert np.abs(pixels.astype(int) - red).max() <= 6


def test_the_times_of_a_clip_with_a_variable_rate_are_kept(tmp_path: Path):
    times = [0.0, 0.1, 0.15, 0.5, 0.52]
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    for index, (picture, at) in enumerate(zip(cards(5), times, strict=True)):
        sink.write(Frame(index, 0.0, picture, media_time=at))
    sink.close()
    assert [frame.media_time for frame in frames_of(VideoSource(tmp_path / "out.mp4"))] == pytest.approx(times)


def test_live_frames_are_shown_when_they_were_captured(tmp_path: Path):
    write(VideoSink(tmp_path / "live.mp4"), cards(4), fps=None)
    times = [frame.media_time for frame in frames_of(VideoSource(tmp_path / "live.mp4"))]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_constant_rate_is_kept_to(tmp_path: Path):
    write(VideoSink(tmp_path / "out.mp4", fps=5), cards(4), fps=24)
    times = [frame.media_time for frame in frames_of(VideoSource(tmp_path / "out.mp4"))]
    assert times == pytest.approx([0, 0.2, 0.4, 0.6])


def test_frames_of_the_same_time_all_get_in(tmp_path: Path):
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    for index, picture in enumerate(cards(4)):
        sink.write(Frame(index, 0.0, picture, media_time=0.5))
    sink.close()
    assert [read_index(frame.pixels) for frame in frames_of(VideoSource(tmp_path / "out.mp4"))] == [0, 1, 2, 3]


def test_an_odd_size_is_made_even_by_doubling_the_edge(tmp_path: Path):
    picture = np.full((97, 131, 3), (20, 120, 220), np.uint8)
    write(VideoSink(tmp_path / "odd.mp4"), [picture])
    pixels = next(frames_of(VideoSource(tmp_path / "odd.mp4"))).pixels
    assert pixels.shape == (98, 132, 3)
    assert np.abs(pixels.astype(int) - picture[0, 0]).max() <= 6


def test_a_frame_of_another_size_is_fitted_in(tmp_path: Path):
    grey = np.full((64, 64, 3), 128, np.uint8)
    write(VideoSink(tmp_path / "out.mp4"), [np.full((64, 128, 3), 128, np.uint8), grey])
    second = list(frames_of(VideoSource(tmp_path / "out.mp4")))[1].pixels.astype(int)
    assert second.shape == (64, 128, 3)
    assert np.abs(second[:, 40:88] - 128).max() <= 8
    assert second[:, :24].max() <= 12
    assert second[:, 104:].max() <= 12


KILLED = r"""
import sys, time
from app.frame import Frame
from app.sinks import VideoSink
from app.sources.testcard import TestCardSource
card = TestCardSource(width=128, height=96)
sinks = [VideoSink(path, audio_from=sys.argv[1]) for path in sys.argv[2:]]
for sink in sinks:
    sink.open()
for index in range(61):
    for sink in sinks:
        sink.write(Frame(index, 0.0, card.picture(index), media_time=index / 10))
sys.stdout.write("enough\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_files_whose_writer_is_killed_can_be_played(tmp_path: Path):
    paths = [tmp_path / f"killed{suffix}" for suffix in (".mp4", ".mov", ".mkv")]
    sound = write_clip(tmp_path / "sound.mp4", cards(2), sound="aac", sound_seconds=3)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(sound), *map(str, paths)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"enough\n"
        writer.kill()
    for path in paths:
        frames = [read_index(frame.pixels) for frame in frames_of(VideoSource(path))]
        assert frames == list(range(len(frames)))
        # At 10 frames a second: half a second of a fragment and one of waiting for sound that has ended.
        assert len(frames) >= 61 - 16, path.suffix


FULL = r"""
import resource, signal, sys
from app.frame import Frame
from app.sinks import SinkError, VideoSink
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = np.random.default_rng(0)
for path in sys.argv[1:]:
    sink = VideoSink(path)
    sink.open()
    try:
        for index in range(1000):
            sink.write(Frame(index, 0.0, noise.integers(0, 256, (96, 128, 3), np.uint8), media_time=index / 10))
    except SinkError as error:
        sys.stdout.write(f"{index}|{error}\n")
    sink.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes is POSIX")
def test_what_was_written_before_the_disk_is_full_can_be_played(tmp_path: Path):
    paths = [tmp_path / "full.mp4", tmp_path / "full.mkv"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *map(str, paths)], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        index, message = line.split("|")
        assert f"{path} cannot be written" in message
        assert int(index) > 10
        assert len(list(frames_of(VideoSource(path)))) >= int(index) - 8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_disk_that_is_full_from_the_start_is_told(tmp_path: Path):
    path = tmp_path / "full.mp4"
    path.symlink_to("/dev/full")
    sink = VideoSink(path)
    with pytest.raises(SinkError, match="the disk is full"):
        write(sink, cards(30))
    sink.close()
    assert path.readlink() == Path("/dev/full")


FULL_AT_ONCE = FULL.replace("400_000, 400_000", "10, 10")


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes is POSIX")
def test_a_disk_that_is_full_from_the_start_leaves_all_as_it_was(tmp_path: Path):
    paths = [tmp_path / name for name in ("old.mp4", "old.mkv", "new.mp4", "new.mkv", "link.mp4", "old.mov")]
    link, old = paths[-2:]
    link.symlink_to(old)
    before = {path.name: f"{path.name} is precious".encode() for path in paths if path.name.startswith("old")}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", FULL_AT_ONCE, *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert [line.split("|")[0] for line in done.stdout.splitlines()] == ["0"] * len(paths)
    assert link.readlink() == old
    link.unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("linked", [False, True])
def test_the_first_frame_replaces_an_old_file(tmp_path: Path, linked: bool):
    path = tmp_path / "out.mp4"
    if linked:
        path.symlink_to(tmp_path / "old.mp4")
    path.write_bytes(b"old")
    write(VideoSink(path), cards(3))
    assert len(list(frames_of(VideoSource(path)))) == 3
    assert path.is_symlink() == linked
    assert len(list(tmp_path.iterdir())) == 1 + linked


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("rate", [36 / 172_801, 1e-9, 1 / 1500, 1e5, 1e9])
def test_no_rate_is_too_low_or_too_high(tmp_path: Path, suffix: str, rate: float):
    sink = VideoSink(tmp_path / f"out{suffix}", nominal_fps=lambda: rate)
    sink.open()
    for index, picture in enumerate(cards(3)):
        sink.write(Frame(index, 0.0, picture, media_time=index * 1800.0))
    sink.close()
    frames = list(frames_of(VideoSource(tmp_path / f"out{suffix}")))
    assert [read_index(frame.pixels) for frame in frames] == [0, 1, 2]
    assert [frame.media_time for frame in frames] == pytest.approx([0, 1800, 3600])


def test_nothing_is_created_before_the_first_frame(tmp_path: Path):
    (tmp_path / "old.mp4").write_bytes(b"precious")
    for name in ("new.mp4", "old.mp4"):
        sink = VideoSink(tmp_path / name)
        sink.open()
        sink.close()
        sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"precious"


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(SinkError, match="there is no folder"):
        VideoSink(tmp_path / "gone" / "out.mp4").open()


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(SinkError, match="it is a folder"):
        VideoSink(tmp_path / "out.mp4").open()


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="/proc is a place where even root cannot write, on Linux"
)
def test_a_place_without_permission_is_refused():
    with pytest.raises(SinkError, match="cannot be written"):
        VideoSink("/proc/out.mp4").open()


@pytest.mark.parametrize("name", ["out.gif", "out", "out.avi"])
def test_an_unknown_kind_is_refused_with_those_that_are_known(tmp_path: Path, name: str):
    with pytest.raises(SinkError, match=r"use one of \.mp4"):
        VideoSink(tmp_path / name).open()


def test_the_input_is_not_overwritten(tmp_path: Path):
    path = write_clip(tmp_path / "clip.mp4", cards(2))
    with pytest.raises(SinkError, match="is also the input"):
        VideoSink(path, audio_from=tmp_path / "." / "clip.mp4").open()


@pytest.mark.parametrize(
    ("suffix", "sound", "expected"),
    [(".mp4", "aac", "aac"), (".mkv", "libopus", "opus"), (".mp4", "pcm_s16le", "aac"), (".mov", "flac", "aac")],
)
def test_the_sound_is_copied_in_step_and_ends_with_the_pictures(tmp_path: Path, suffix: str, sound: str, expected: str):
    original = write_clip(tmp_path / "in.mkv", cards(24 * 4), sound=sound, sound_seconds=6)
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, audio_from=original)
    sink.open()
    for frame in frames_of(VideoSource(original)):
        sink.write(frame)
    sink.close()
    assert sink.lost is None
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec.canonical_name == expected
        starts = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.pts is not None]
    assert 3.9 < max(starts) < 4.1
    assert clicks(path)[:4] == pytest.approx([0, 1, 2, 3], abs=0.03)
    times = [frame.media_time for frame in frames_of(VideoSource(path))]
    assert times == pytest.approx([n / 24 for n in range(96)], abs=0.002)


def test_an_input_that_does_not_begin_at_0_keeps_its_sound_in_step(tmp_path: Path):
    times = [7 + n / 24 for n in range(48)]
    original = write_clip(tmp_path / "in.ts", cards(48), times=times, sound="aac", sound_seconds=9)
    # The sound begins at 0 and the pictures at 7: a click at 8 belongs to picture 24, wherever the file begins.
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, audio_from=original)
    sink.open()
    for frame in frames_of(VideoSource(original)):
        sink.write(frame)
    sink.close()
    pictured = {read_index(frame.pixels): frame.media_time for frame in frames_of(VideoSource(path))}
    assert pictured[24] is not None
    assert min(abs(click - pictured[24]) for click in clicks(path)) < 0.06


def test_sound_that_cannot_be_read_is_left_out_and_told(tmp_path: Path):
    (tmp_path / "broken.mp3").write_bytes(b"not a sound" * 50)
    sink = VideoSink(tmp_path / "out.mp4", audio_from=tmp_path / "broken.mp3")
    write(sink, cards(3))
    assert sink.lost is not None
    assert "broken.mp3 was left out" in sink.lost
    assert len(list(frames_of(VideoSource(tmp_path / "out.mp4")))) == 3


def test_an_input_without_sound_gives_a_file_without(tmp_path: Path):
    original = write_clip(tmp_path / "in.mp4", cards(3))
    sink = VideoSink(tmp_path / "out.mp4", audio_from=original)
    write(sink, cards(3))
    assert sink.lost is None
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_without_an_h264_encoder_it_is_mpeg4_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("app.sinks.coding.codecs_available", {"mpeg4"})
    sink = VideoSink(tmp_path / "out.mp4")
    write(sink, cards(12))
    assert sink.lost is not None
    assert "no H.264 encoder" in sink.lost
    frames = list(frames_of(VideoSource(tmp_path / "out.mp4")))
    assert [read_index(frame.pixels) for frame in frames] == list(range(12))
    assert [frame.media_time for frame in frames] == pytest.approx([n / 24 for n in range(12)], abs=0.001)


def test_a_frame_that_comes_hours_later_is_shown_an_hour_after_the_last(tmp_path: Path):
    for name in ("out.mp4", "out.mkv"):
        sink = VideoSink(tmp_path / name)
        sink.open()
        for index, at in enumerate((0.0, 0.04, 36_000.0, 36_000.04, 1e9)):
            sink.write(Frame(index, 0.0, cards(1)[0], media_time=at))
        sink.close()
        with av.open(str(tmp_path / name)) as made:
            times = [float(packet.pts * packet.time_base) for packet in made.demux(video=0) if packet.pts is not None]
        assert times == pytest.approx([0.0, 0.04, 3600.04, 3600.08, 7200.08], abs=0.002)


def test_the_size_is_that_of_the_file_whatever_comes_later(tmp_path: Path):
    sink = VideoSink(tmp_path / "out.mp4")
    assert sink.size is None
    write(sink, [np.zeros((63, 64, 3), np.uint8), np.zeros((96, 32, 3), np.uint8)])
    assert sink.size == (64, 64)


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a file go that is being written")


@posix
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("fate", ["deleted", "replaced", "its folder deleted"])
def test_success_is_only_said_of_a_file_that_is_there(tmp_path: Path, suffix: str, fate: str):
    path = tmp_path / "folder" / f"out{suffix}"
    path.parent.mkdir()
    sink = VideoSink(path)
    sink.open()
    for index, picture in enumerate(cards(3)):
        sink.write(Frame(index, 0.0, picture, media_time=index / 10))
    path.unlink()
    if fate == "replaced":
        path.write_bytes(b"precious")
    elif fate != "deleted":
        path.parent.rmdir()
    with pytest.raises(SinkError, match="was deleted or moved while it was written"):
        sink.close()
    sink.close()
    assert not path.exists() or path.read_bytes() == b"precious"


@posix
def test_it_is_noticed_as_it_is_written_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch_module, "_LOOK_SECONDS", 0.0)
    path = tmp_path / "out.mp4"
    sink = VideoSink(path)
    sink.open()
    sink.write(Frame(0, 0.0, cards(1)[0], media_time=0.0))
    path.unlink()
    with pytest.raises(SinkError, match="was deleted or moved"):
        sink.write(Frame(1, 0.0, cards(1)[0], media_time=0.1))
    sink.close()
    assert not path.exists()


@posix
def test_a_file_that_somebody_cut_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sink = VideoSink(tmp_path / "out.mp4")
    sink.open()
    for index, picture in enumerate(cards(20)):
        sink.write(Frame(index, 0.0, picture, media_time=index / 10))
    check = VideoSink._check

    def cut_first(self: VideoSink) -> None:
        os.truncate(tmp_path / "out.mp4", 100)
        check(self)

    monkeypatch.setattr(VideoSink, "_check", cut_first)
    with pytest.raises(SinkError, match=r"The end of .* could not be written"):
        sink.close()


@posix
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "out.mp4"
    with socket.socket(socket.AF_UNIX) as made:
        if kind == "pipe":
            os.mkfifo(path)
        else:
            made.bind(str(path))
        with pytest.raises(SinkError, match="cannot be written: it is no ordinary file"):
            VideoSink(path).open()


@pytest.mark.parametrize("old", [None, b"precious"])
def test_an_odd_error_of_the_encoder_is_a_sentence_and_changes_no_file(tmp_path: Path, old: bytes | None):
    path = tmp_path / "out.mp4"
    if old is not None:
        path.write_bytes(old)
    sink = VideoSink(path)
    sink.open()
    with pytest.raises(SinkError, match=r"out\.mp4 cannot be written: "):
        sink.write(Frame(0, 0.0, np.zeros((20_000, 32, 3), np.uint8), media_time=0.0))
    sink.close()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([] if old is None else [old])
