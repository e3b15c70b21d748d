"""A few random sessions with fixed seeds; ``python -m tests.pipeline.random_session`` runs for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import StreamConfig
from pipeline.setting import described
from tests.adapters import write_lora
from tests.pipeline.random_session import DRAWN, RandomSession, write_controls


# The last one ends with sparse inference, a small change of a large picture, and a still scene.
@pytest.mark.parametrize("seed", [*range(8), 510])
def test_any_session_settles_to_what_a_new_one_gives(seed: int, tmp_path: Path) -> None:
    session = RandomSession(seed)
    session.lora = tmp_path / "lora.safetensors"
    write_lora(session.lora, session._model, "kohya")
    session.controls = write_controls(tmp_path)
    problem = session.run()
    assert problem is None, f"{problem}\n{session.log}"
    assert session.frames > 5


def test_every_setting_is_changed() -> None:
    by_files = {"loras", "embeddings", "keep_shape", "depth_model", "pose_model", "look_like", "look_model"}
    with_the_filter = {"similarity_threshold", "similarity_skip_cap"}
    assert set(DRAWN) == {name for name, _, _ in described(StreamConfig)} - by_files - with_the_filter
