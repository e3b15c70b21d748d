"""The matrix of faults names tests that are there, and enough of them."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SECTIONS = {"Signals and processes", "Disks", "Sources", "Engines", "Caches", "Settings and the user's own files"}
SECTIONS |= {"Weights", "Network"}


def rows() -> list[tuple[str, str]]:
    """(section, test) of every row."""
    found, section = [], ""
    for line in (Path(__file__).parent / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif named := re.search(r"\| `([^`]+::[^`]+)` \|$", line):
            found.append((section, named[1]))
    return found


def test_every_row_names_a_test_that_is_there():
    for _, name in rows():
        path, _, function = name.partition("::")
        source = (TESTS / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), name


def test_there_are_sixty_faults_and_more_of_every_kind():
    named = [name for _, name in rows()]
    assert len(named) == len(set(named)) >= 60
    assert {section for section, _ in rows()} == SECTIONS
