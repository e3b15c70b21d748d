"""Whatever is given comes out right, or one sentence says what did not: every input of the corpus, through its door."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.sources import SourceError, open_source
from tests.app.media import frames_of
from tests.corpus import CASES
from tests.corpus_case import Case, Frames, Says

UNFORESEEN = re.compile("unforeseen|Traceback|Error\\b")


def sentence(message: str) -> str:
    """``message``, which must be for people."""
    assert message.strip()
    assert "\n" not in message
    assert not UNFORESEEN.search(message), message
    return message


def check_source(case: Case, folder: Path) -> None:
    """Through ``open_source``, to its last frame."""
    given = str(case.make(folder))
    try:
        source = open_source(given)
        frames = list(frames_of(source))
    except SourceError as error:
        assert isinstance(case.right, Says), str(error)
        assert re.search(case.right.words, sentence(str(error)))
        return
    right = case.right
    assert isinstance(right, Frames), f"{len(frames)} frames and no message"
    assert len(frames) == right.count
    assert all(frame.pixels.dtype == np.uint8 and frame.pixels.shape[2] == 3 for frame in frames)
    first = frames[0].pixels
    if right.size is not None:
        assert (first.shape[1], first.shape[0]) == right.size
    for (x, y), colour in right.colours.items():
        assert first[y, x].tolist() == pytest.approx(colour, abs=right.within), (x, y)
    for frame, colour in zip(frames, right.firsts, strict=False):
        assert frame.pixels[0, 0].tolist() == pytest.approx(colour, abs=right.within)
    if right.times:
        assert [frame.media_time for frame in frames] == pytest.approx(right.times, abs=0.002)
    assert bool(source.lost) == bool(right.said), source.lost
    assert re.search(right.said, sentence(source.lost) if source.lost else "")


DOORS: dict[str, Callable[[Case, Path], None]] = {"picture": check_source, "folder": check_source}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_every_input_comes_out_right_or_is_told(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    DOORS[case.kind](case, folder)


def test_names_are_given_once() -> None:
    names = [(case.kind, case.name) for case in CASES]
    assert len(set(names)) == len(names)
