"""Recordings: playable after a kill, never over another file, and trouble is told while the picture goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.frame import Frame
from app.session import Session
from app.settings import Settings
from app.sinks import Recorder, SinkError
from app.sinks import watch as watch_module
from app.sources.testcard import TestCardSource, read_index
from app.sources.video import VideoSource
from app.status import SessionState
from tests.app.fakes import SAFETY_SECONDS, FakeEngine, FakeSource, ListSink, loader_of, until
from tests.app.media import cards, frames_of

REPOSITORY = Path(__file__).resolve().parents[3]

KILLED = r"""
import sys, time
from pathlib import Path
from app.frame import Frame
from app.sinks import Recorder
from app.sources.testcard import TestCardSource
card = TestCardSource(width=128, height=96)
recorder = Recorder(Path(sys.argv[1]), nominal_fps=lambda: 20)
recorder.open()
for index in range(60):
    while recorder.written < index - 5:
        time.sleep(0.001)
    recorder.write(Frame(index, 100 + index / 20, card.picture(index)))
while recorder.written < 60:
    time.sleep(0.001)
sys.stdout.write(f"{recorder.path}\n")
sys.stdout.flush()
time.sleep(600)
"""


def test_a_recording_whose_process_is_killed_can_be_played(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "new")], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        process.kill()
    frames = [read_index(frame.pixels) for frame in frames_of(VideoSource(path))]
    assert frames == list(range(len(frames)))
    assert len(frames) >= 60 - 2 * 10  # at 20 frames a second, less than two fragments of half a second


def test_no_recording_replaces_another(tmp_path: Path):
    paths = set()
    for _ in range(3):
        recorder = Recorder(tmp_path)
        recorder.open()
        for index, pixels in enumerate(cards(3)):
            recorder.write(Frame(index, index / 10, pixels))
        recorder.close()
        assert recorder.seconds == pytest.approx(0.2)
        paths.add(recorder.path)
    assert len(paths) == 3
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def session_with(*sinks: Recorder | ListSink) -> Session:
    source = TestCardSource(width=64, height=64, fps=100, live=True)
    return Session(source, Settings(), sinks, loader=loader_of(FakeEngine()))


def test_recorder_and_others_run_at_once_and_detach_while_running(tmp_path: Path):
    enough = threading.Event()
    window = ListSink(lambda _: enough.set() if recorder.written > 20 else None)
    recorder = Recorder(tmp_path)
    with session_with(window) as session:
        session.add_sink(recorder)
        assert enough.wait(SAFETY_SECONDS)
        session.remove_sink(recorder)
        after = len(list(frames_of(VideoSource(recorder.path))))
        assert after > 20
        assert session.state is SessionState.RUNNING
        assert session.notices == []
    assert len(list(frames_of(VideoSource(recorder.path)))) == after


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_ends_the_recording_and_not_the_session(tmp_path: Path):
    going_on = threading.Event()
    window = ListSink(lambda _: going_on.set() if session.notices else None)
    recorder = Recorder(tmp_path)
    recorder.path.symlink_to("/dev/full")
    with session_with(window) as session:
        session.add_sink(recorder)
        assert going_on.wait(SAFETY_SECONDS)
        assert session.state is SessionState.RUNNING
        (notice,) = session.notices
    assert "the disk is full" in notice.message
    assert "takes no more pictures" in notice.message


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a file go that is being written")
def test_a_folder_that_vanishes_ends_the_recording_and_not_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watch_module, "_LOOK_SECONDS", 0.01)
    going_on = threading.Event()
    folder = tmp_path / "stick"

    def look(_: int) -> None:
        if recorder.written >= 5 and folder.exists():
            shutil.rmtree(folder)
        if session.notices:
            going_on.set()

    recorder = Recorder(folder)
    with session_with(ListSink(look)) as session:
        session.add_sink(recorder)
        assert going_on.wait(SAFETY_SECONDS)
        assert session.state is SessionState.RUNNING
        assert "was deleted or moved" in session.notices[0].message


def test_a_place_that_cannot_be_written_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SinkError, match="is not a folder"):
            Recorder(folder).open()

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(SinkError, match="cannot be made: Permission denied"):
        Recorder(tmp_path / "forbidden").open()


def test_a_file_source_is_recorded_too(tmp_path: Path):
    recorder = Recorder(tmp_path)
    shown = ListSink()
    with Session(FakeSource(count=12), Settings(), [shown, recorder], loader=loader_of(FakeEngine())) as session:
        assert session.wait(SAFETY_SECONDS).state is SessionState.ENDED
    assert len(list(frames_of(VideoSource(recorder.path)))) == 12


def test_a_pause_is_a_cut_in_the_recording(tmp_path: Path):
    card = TestCardSource(width=128, height=96)
    recorder = Recorder(tmp_path, nominal_fps=lambda: 20)
    recorder.open()
    for index in range(20):
        pause = 0.0 if index < 10 else 600.0
        recorder.write(Frame(index, 100 + index / 20 + pause, card.picture(index), take=int(index >= 10)))
        until(lambda: recorder.written > index)  # noqa: B023 - at once
    recorder.close()
    assert recorder.seconds == pytest.approx(19 / 20)
    times = [frame.media_time for frame in frames_of(VideoSource(recorder.path))]
    assert [read_index(frame.pixels) for frame in frames_of(VideoSource(recorder.path))] == list(range(20))
    assert times == pytest.approx([index / 20 for index in range(20)], abs=0.002)
