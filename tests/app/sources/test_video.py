"""Clips: every frame in order, upright, with its time; damage is told, never hidden."""

from __future__ import annotations

import struct
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from app.media import fields, graphs, reading
from app.sources import SourceError
from app.sources.testcard import read_index
from app.sources.video import VideoSource
from tests.app.media import add_clicks, assert_close_ends_a_read, cards, frames_of, write_clip
from tests.corpus_video import interlaced, joined, transport_stream


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", cards(24))


def test_every_frame_comes_once_in_order_with_its_time(clip: Path):
    source = VideoSource(clip)
    frames = list(frames_of(source))
    assert [read_index(frame.pixels) for frame in frames] == list(range(24))
    assert [frame.index for frame in frames] == list(range(24))
    assert [frame.media_time for frame in frames] == pytest.approx([n / 24 for n in range(24)])
    assert frames[0].pixels.shape == (96, 128, 3)
    assert (source.fps, source.frame_count, source.lost, source.live) == (24.0, 24, None, False)


def test_the_colours_are_those_of_the_pictures(clip: Path):
    first = next(frames_of(VideoSource(clip)))
    difference = np.abs(first.pixels.astype(int) - cards(1)[0])
    assert np.median(difference) <= 4


@pytest.mark.parametrize(("height", "colorspace"), [(96, 2), (96, 1), (736, 2)])
def test_the_colour_matrix_is_the_one_of_the_file_or_of_its_size(tmp_path: Path, height: int, colorspace: int):
    red = np.full((height, 64, 3), (220, 30, 40), np.uint8)
    matrix = Colorspace.ITU709 if colorspace == 1 or height > 700 else Colorspace.ITU601
    with av.open(str(tmp_path / "red.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, height, "yuv420p"
        stream.codec_context.colorspace = colorspace
        frame = av.VideoFrame.from_ndarray(red, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    pixels = next(frames_of(VideoSource(tmp_path / "red.mkv"))).pixels
    assert np.abs(pixels.astype(int) - red).max() <= 6


def test_odd_sizes_are_kept(tmp_path: Path):
    path = write_clip(tmp_path / "odd.mp4", cards(3, 131, 97))
    assert [frame.pixels.shape for frame in frames_of(VideoSource(path))] == [(97, 131, 3)] * 3


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_clip_held_sideways_is_turned_upright(tmp_path: Path, rotation: int, turns: int):
    card = cards(1)[0]
    path = write_clip(tmp_path / "turned.mp4", [card], rotation=rotation)
    pixels = next(frames_of(VideoSource(path))).pixels
    expected = np.rot90(card, turns)
    assert pixels.shape == expected.shape
    assert np.median(np.abs(pixels.astype(int) - expected)) <= 4


def test_variable_frame_times_are_kept(tmp_path: Path):
    times = [0.0, 0.1, 0.15, 0.5, 0.52]
    path = write_clip(tmp_path / "variable.mkv", cards(5), times=times)
    assert [frame.media_time for frame in frames_of(VideoSource(path))] == pytest.approx(times, abs=0.002)


def test_times_count_from_the_beginning_of_the_file(tmp_path: Path):
    path = write_clip(tmp_path / "late.ts", cards(4), times=[5 + n / 24 for n in range(4)])
    with av.open(str(path)) as container:
        assert container.start_time, "a transport stream that begins at 0 tests nothing"
    assert [frame.media_time for frame in frames_of(VideoSource(path))] == pytest.approx([n / 24 for n in range(4)])


def test_it_can_be_opened_again_from_the_beginning(clip: Path):
    source = VideoSource(clip)
    source.open()
    source.read()
    source.close()
    assert source.read() is None
    assert len(list(frames_of(source))) == 24


def test_a_missing_file_is_said_to_be(tmp_path: Path):
    with pytest.raises(SourceError, match=r"gone\.mp4 cannot be read: No such file"):
        VideoSource(tmp_path / "gone.mp4").open()


def test_an_empty_file_is_said_to_be(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="is empty"):
        VideoSource(tmp_path / "empty.mp4").open()


def test_a_text_is_no_video(tmp_path: Path):
    (tmp_path / "letter.mp4").write_text("Dear reader, this is no video.\n" * 20)
    with pytest.raises(SourceError, match=r"is not a video that can be read \(invalid data"):
        VideoSource(tmp_path / "letter.mp4").open()


def test_a_sound_file_has_no_video(tmp_path: Path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        add_clicks(container, "aac", 1.0)
    with pytest.raises(SourceError, match="no video in it, only sound"):
        VideoSource(tmp_path / "song.mp4").open()


def test_a_video_that_ends_with_its_header_is_said_to(tmp_path: Path):
    path = write_clip(tmp_path / "hollow.mkv", cards(2))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the Matroska id of the first group of frames
    with pytest.raises(SourceError, match="breaks off before its first frame"):
        VideoSource(path).open()


def test_a_video_without_a_frame_that_decodes_is_said_to_be(tmp_path: Path):
    path = write_clip(tmp_path / "hollow.mp4", cards(4), options={"movflags": "faststart"})
    data = path.read_bytes()
    pictures = data.index(b"mdat") + 4
    path.write_bytes(data[:pictures] + bytes(len(data) - pictures))
    source = VideoSource(path)
    source.open()
    with pytest.raises(SourceError, match="without a single frame"):
        source.read()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_clip_cut_short_gives_what_is_there_and_says_what_is_lost(tmp_path: Path, suffix: str):
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    path = write_clip(tmp_path / f"cut{suffix}", cards(96), options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source = VideoSource(path)
    read = [read_index(frame.pixels) for frame in frames_of(source)]
    assert 30 < len(read) < 80
    assert read == list(range(len(read)))
    assert source.lost is not None
    assert f"{len(read)} frames were read" in source.lost
    about = int(source.lost.split("about ")[1].split()[0])
    assert about == pytest.approx(96 - len(read), abs=3)


def test_damage_in_the_middle_costs_only_what_it_hit(tmp_path: Path):
    path = write_clip(tmp_path / "bad.mkv", cards(48))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    source = VideoSource(path)
    read = [read_index(frame.pixels) for frame in frames_of(source)]
    assert read[:16] == list(range(16))
    assert source.lost is not None
    assert len(read) < 48


def test_a_clip_trimmed_by_its_header_has_lost_nothing(tmp_path: Path):
    path = write_clip(tmp_path / "trimmed.mp4", cards(48))
    data = bytearray(path.read_bytes())
    entry = data.index(b"elst") + 12  # the MP4 edit list: after version and count, how long to show, in milliseconds
    assert struct.unpack_from(">I", data, entry) == (2000,)
    struct.pack_into(">I", data, entry, 1000)
    path.write_bytes(data)
    source = VideoSource(path)
    assert len(list(frames_of(source))) == 24
    assert source.lost is None


def test_in_real_time_it_is_a_live_source_that_goes_on_for_ever(tmp_path: Path):
    path = write_clip(tmp_path / "short.mp4", cards(6), fps=120)
    source = VideoSource(path, realtime=True, loop=True)
    started = time.monotonic()
    source.open()
    frames = [source.read() for _ in range(15)]
    source.close()
    assert all(frame is not None for frame in frames)
    assert [read_index(frame.pixels) for frame in frames if frame] == [n % 6 for n in range(15)]
    assert [frame.index for frame in frames if frame] == list(range(15))
    assert source.live
    assert source.frame_count is None
    assert {frame.media_time for frame in frames if frame} == {None}
    captured = [frame.captured_at for frame in frames if frame]
    assert captured[-1] - started >= 14 / 120 - 0.01  # never ahead of the clock


def test_close_ends_the_wait_for_a_frame_that_is_far_off(tmp_path: Path):
    path = write_clip(tmp_path / "slow.mkv", cards(2), times=[0.0, 600.0])
    source = VideoSource(path, realtime=True)
    assert_close_ends_a_read(source)


def numbers(source: VideoSource, count: int) -> list[int]:
    frames = [source.read() for _ in range(count)]
    return [read_index(frame.pixels) for frame in frames if frame]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_clip_can_be_sought_in_while_it_plays(tmp_path: Path, name: str):
    path = write_clip(tmp_path / name, cards(40), fps=200, codec="mpeg4" if name.endswith("avi") else "libx264")
    source = VideoSource(path, realtime=True)
    source.open()
    assert source.duration == pytest.approx(0.2, abs=0.02)
    assert numbers(source, 2) == [0, 1]
    for place in (30, 3, 17, 16, 0, 39):
        source.seek(place / 200)
        frame = source.read()
        assert frame is not None
        assert read_index(frame.pixels) == place
        assert source.position == pytest.approx(place / 200, abs=0.006)
    source.seek(9 / 200)
    assert numbers(source, 4) == [9, 10, 11, 12]
    source.seek(5 / 200)
    source.seek(20 / 200)
    assert numbers(source, 40) == list(range(20, 40))
    assert source.read() is None
    source.close()


def test_a_seek_ends_the_wait_for_a_frame_that_is_far_off(tmp_path: Path):
    path = write_clip(tmp_path / "slow.mkv", cards(4), times=[0.0, 0.04, 0.08, 600.0])
    source = VideoSource(path, realtime=True)
    source.open()
    assert numbers(source, 3) == [0, 1, 2]
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(numbers(source, 1)))
    reader.start()
    source.seek(0.04)
    reader.join(timeout=30)
    source.close()
    assert found == [1]


def test_beyond_the_end_is_the_end_and_a_loop_begins_again(tmp_path: Path):
    path = write_clip(tmp_path / "short.mp4", cards(6), fps=120)
    source = VideoSource(path, realtime=True, loop=True, start=4 / 120)
    source.open()
    assert numbers(source, 3) == [4, 5, 0]
    source.seek(99)
    assert numbers(source, 3) in ([5, 0, 1], [0, 1, 2])
    source.seek(-3)
    assert numbers(source, 1) == [0]
    source.loop = False
    assert numbers(source, 9) == [1, 2, 3, 4, 5]
    source.close()
    assert source.lost is None


def test_a_loop_can_be_asked_for_while_the_clip_plays(tmp_path: Path):
    path = write_clip(tmp_path / "short.mp4", cards(4), fps=120)
    source = VideoSource(path, realtime=True)
    source.open()
    assert numbers(source, 2) == [0, 1]
    source.loop = True
    assert numbers(source, 6) == [2, 3, 0, 1, 2, 3]
    source.close()


def test_a_file_of_which_every_frame_counts_is_not_sought_in(tmp_path: Path):
    path = write_clip(tmp_path / "short.mp4", cards(4))
    with pytest.raises(ValueError, match="real time"):
        VideoSource(path).seek(1)
    with pytest.raises(ValueError, match="no time"):
        VideoSource(path, realtime=True).seek(float("nan"))


def joined_clip(tmp_path: Path, *, start: float = 36_000.0) -> Path:
    """Fifty numbered pictures, 25 a second, the second half by another clock."""
    shown = cards(50)
    halves = (
        transport_stream(tmp_path / "a.ts", shown[:25]),
        transport_stream(tmp_path / "b.ts", shown[25:], start=start),
    )
    return joined(tmp_path / "joined.ts", *halves)


def test_a_clock_that_leaps_does_not_stand_still_as_it_plays(tmp_path: Path):
    source = VideoSource(joined_clip(tmp_path), realtime=True)
    source.open()
    assert source.duration == pytest.approx(2.0, abs=0.05)
    assert numbers(source, 60) == list(range(50))
    assert source.position == pytest.approx(1.96, abs=0.05)
    source.close()


@pytest.mark.parametrize("start", [0.0, 36_000.0])
def test_a_joined_clip_can_be_sought_in_by_the_time_that_is_shown(tmp_path: Path, start: float):
    source = VideoSource(joined_clip(tmp_path, start=start), realtime=True)
    source.open()
    for place in (40, 30, 3, 49, 0):
        source.seek(place / 25 + 0.022)  # the sound begins half a picture earlier
        assert numbers(source, 1) == [place]
    source.close()


def test_a_clip_can_begin_behind_a_joint(tmp_path: Path):
    source = VideoSource(joined_clip(tmp_path), realtime=True, start=1.62)
    source.open()
    assert numbers(source, 4) == [40, 41, 42, 43]
    source.close()


def test_close_ends_the_way_to_a_place_far_inside_a_joined_clip(tmp_path: Path):
    source = VideoSource(joined_clip(tmp_path), realtime=True)
    source.open()
    source.seek(1.9)
    source._closing.set()  # as ``close`` does on another thread, before it waits for the reader
    assert source.read() is None
    source.close()


def test_the_length_of_a_large_joined_clip_is_reckoned_from_its_first_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = joined_clip(tmp_path)
    monkeypatch.setattr(reading, "_SCANNED_BYTES", path.stat().st_size // 3)
    source = VideoSource(path)
    source.open()
    assert source.duration == pytest.approx(2.0, rel=0.5)  # its header says ten hours
    assert source.frame_count == pytest.approx(50, rel=0.5)
    assert len(list(frames_of(source))) == 50


def test_a_clip_that_grows_while_it_is_read_is_told(tmp_path: Path):
    options = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    path = write_clip(tmp_path / "growing.mp4", cards(48), options=options)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"moof") - 4])
    source = VideoSource(path)
    source.open()
    count = 0
    while source.read() is not None:
        count += 1
        if count == 20:
            with path.open("ab") as file:
                file.write(whole[path.stat().st_size :])
    source.close()
    assert source.lost is not None
    assert "growing.mp4 grew while it was read" in source.lost
    assert f"{count} frames" in source.lost


def test_a_clip_that_is_replaced_while_it_loops_goes_on_with_the_new_one_or_says_why_not(tmp_path: Path):
    path = write_clip(tmp_path / "short.mp4", cards(4), fps=200)
    source = VideoSource(path, realtime=True, loop=True)
    source.open()
    assert numbers(source, 4) == [0, 1, 2, 3]
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        source.read()
    source.close()


def test_fields_that_no_filter_can_weave_are_shown_as_they_are_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fields, "Filter", lambda like, *_, **__: graphs.Filter(like, "no_such_filter"))
    source = VideoSource(interlaced(tmp_path / "a.mp4", "libx264"))
    assert len(list(frames_of(source))) == 12
    assert source.lost is not None
    assert "is interlaced" in source.lost
