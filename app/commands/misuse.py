"""The error for what a user can put right."""

from __future__ import annotations


class Misuse(Exception):
    """The command cannot be carried out as given. The message is one sentence; the exit code is 2."""
