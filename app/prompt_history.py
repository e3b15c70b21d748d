"""The prompts of the past, newest first, each once; kept between two runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.json_files import read_kept, write_json
from app.settings import default_path

KEPT_PROMPTS = 200


class PromptHistory:
    """A list of prompts, at most ``limit`` long.

    Args:
        prompts: newest first.
        limit: at least 1.
    """

    def __init__(self, prompts: Iterable[str] = (), limit: int = KEPT_PROMPTS) -> None:
        self._limit = limit
        self._prompts: list[str] = []
        for prompt in reversed(list(prompts)):
            self.add(prompt)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Newest first."""
        return tuple(self._prompts)

    def add(self, prompt: str) -> None:
        """Put a prompt first; an older one with the same words goes. An empty one is not kept."""
        words = " ".join(prompt.split())
        if not words:
            return
        self._prompts = [words, *(one for one in self._prompts if one.casefold() != words.casefold())][: self._limit]


def history_path() -> Path:
    """Beside the settings."""
    return default_path().with_name("prompts.json")


def load_history(path: Path) -> PromptHistory:
    """What was kept; an empty history where nothing was or the file is damaged, which the log then says."""
    found = read_kept(path)
    return PromptHistory(one for one in found if isinstance(one, str)) if isinstance(found, list) else PromptHistory()


def save_history(history: PromptHistory, path: Path) -> None:
    """Keep it, whole or not at all. Raises ``OSError``."""
    write_json(path, list(history.prompts))
