"""Messages that nobody can read change nothing; text that a terminal cannot show ends nothing."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from app.commands.misuse import Misuse
from app.commands.terminal import Messages, Results, console_on, say, settle_output, take_any_text
from ui.main import _refuse


def stream_on(path: Path, encoding: str = "utf-8", errors: str = "strict") -> io.TextIOWrapper:
    """As Python makes standard output and error."""
    return io.TextIOWrapper(path.open("wb"), encoding, errors, line_buffering=True)


def test_without_standard_error_there_are_no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that has a window and no console."""
    monkeypatch.setattr(sys, "stderr", None)
    say("a line")
    console_on(Messages()).print("a line")
    assert _refuse("a source that is none") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux")
def test_a_full_disk_takes_no_messages_and_says_that_it_takes_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    with stream_on(Path("/dev/full")) as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("a line")
        console_on(Messages()).print("a line")
    with stream_on(Path("/dev/full")) as full:  # closing it flushes: it must lead nowhere by then
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(Misuse, match="cannot be written: No space left"):
            console_on(Results()).print("a line")
        settle_output()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in another way there")
def test_a_reader_that_has_gone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in (("stderr", Messages), ("stdout", Results)):
        reader, writer = os.pipe()
        os.close(reader)
        with io.TextIOWrapper(os.fdopen(writer, "wb"), "utf-8", line_buffering=True) as closed:
            monkeypatch.setattr(sys, name, closed)
            console_on(file()).print("a line")
            console_on(file()).print("another")
            settle_output()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_text_goes_out_in_any_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    text = "café → 🎨 \udce9"
    for name, file in (("stderr", Messages), ("stdout", Results)):
        with stream_on(tmp_path / name, encoding) as stream:
            monkeypatch.setattr(sys, name, stream)
            console_on(file()).print(text)
        written = (tmp_path / name).read_text(encoding)
        assert written.startswith("caf")
        assert written.endswith("\\udce9\n")
    with stream_on(tmp_path / "plain", encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        take_any_text()
        sys.stdout.write(text)
    assert (tmp_path / "plain").read_text(encoding).endswith("\\udce9")
