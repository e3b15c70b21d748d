"""Shortcuts: every command has one that can be typed, on every system, and no two have the same."""

from __future__ import annotations

import tests.ui.needs_qt  # noqa: F401 - before Qt

# isort: split

import pytest

from ui.actions import COMMANDS
from ui.keys import HARD_TO_TYPE, MACOS_TAKES, keys_of

PLATFORMS = ("linux", "win32", "darwin")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_command_has_a_key_that_can_be_typed(platform: str):
    for command in COMMANDS:
        shown = keys_of(command.name, platform)[0]
        assert shown[-1] not in HARD_TO_TYPE, f"{command.name}: not on every keyboard"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_two_commands_have_the_same_key(platform: str):
    keys = [key for command in COMMANDS for key in keys_of(command.name, platform)]
    assert len(set(keys)) == len(keys)


def test_macos_leaves_every_key_to_the_window():
    keys = {key for command in COMMANDS for key in keys_of(command.name, "darwin")}
    assert not keys & MACOS_TAKES
    assert keys_of("pause", "linux")[0] in MACOS_TAKES, "that is why there is a second table"
