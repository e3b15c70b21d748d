"""Figures of a quality report in the model's card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assets.training.__main__ import main
from assets.training.card import write_figures
from assets.training.vocabulary import STYLES
from pipeline.models import EMBEDDED_PATH


def report(share: float = 0.875) -> dict[str, Any]:
    """What `tests.model_quality` writes, with one share everywhere."""
    steps = {
        "recognised_mean": share,
        "recognised": dict.fromkeys(STYLES, share),
        "recognised_by_pixels_mean": share / 2,
        "recognised_by_pixels": dict.fromkeys(STYLES, share / 2),
        "teacher_distance_ratio_mean": 0.5,
        "teacher_distance_ratio": dict.fromkeys(STYLES, 0.5),
    }
    return {
        "held_out": 100,
        "train": 160,
        "one_step": steps,
        "four_steps": steps,
        "pictures": {
            "autoencoder_db": 29.0,
            "autoencoder_styled_db": 23.3,
            "identity_db": {"a photo": 28.4, "empty prompt": 28.5},
            "autoencoder_distance_ratio_mean": 0.37,
        },
        "steady": dict.fromkeys(STYLES, 1.25),
        "strength": {"monotone": list(STYLES)[1:]},
        "paraphrases": {"trained": 0.9, "held_out": 0.8, "wrong": ["ink", *STYLES["comic"].held_out]},
        "guidance": {"moved_away_share": 1.0, "worst_burnt": 0.01},
        "disk_and_time": {
            "stages_ms": {"encode": 7, "unet": 25, "decode": 18},
            "megabytes": 23.5,
            "dtype": "torch.float32",
        },
        "classifier_on_teachers": 0.98,
        "classifier_on_coded_teachers": 0.96,
        "pixel_classifier_on_teachers": 0.94,
        "pixel_classifier_on_coded_teachers": 0.92,
    }


def test_figures_replace_figures(tmp_path: Path) -> None:
    card, found = tmp_path / "README.md", tmp_path / "quality.json"
    before = (EMBEDDED_PATH / "README.md").read_text(encoding="utf-8")
    card.write_text(before, encoding="utf-8")
    found.write_text(json.dumps(report()), encoding="utf-8")
    assert main(["card", "--report", str(found), "--model", str(tmp_path)]) == 0
    after = card.read_text(encoding="utf-8")
    assert "| style named right, one step (mean; worst) | 88 %; 88 % | 95 %; 85 % |" in after
    assert "| styles with three wordings found right, one of them never trained on | 12 of 13 | all |" in after
    assert "| the same by a judge that shares nothing with the training, four steps | 44 %; 44 % |" in after
    assert after.partition("## How good")[0] == before.partition("## How good")[0]
    assert after.partition("## Limits")[2] == before.partition("## Limits")[2]
    write_figures(found, card)
    assert card.read_text(encoding="utf-8") == after


@pytest.mark.parametrize("text", ["no report", "{}"])
def test_another_file_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("## How good it is\n\n## Limits\n", encoding="utf-8")
    (tmp_path / "quality.json").write_text(text, encoding="utf-8")
    assert main(["card", "--report", str(tmp_path / "quality.json"), "--model", str(tmp_path)]) == 2
    assert "is no report" in capsys.readouterr().err


def test_a_card_without_the_part_is_left_as_it_is(tmp_path: Path) -> None:
    card, found = tmp_path / "README.md", tmp_path / "quality.json"
    card.write_text("# Another card\n", encoding="utf-8")
    found.write_text(json.dumps(report()), encoding="utf-8")
    with pytest.raises(ValueError, match="has no part"):
        write_figures(found, card)
    assert card.read_text(encoding="utf-8") == "# Another card\n"
