"""Puts the figures of a quality report into the model card, so that no figure there is written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assets.training.vocabulary import STYLES

FIRST, LAST = "## How good it is", "## Limits"


def write_figures(report: Path, card: Path) -> None:
    """Replace the part of `card` between FIRST and LAST by what `python -m tests.model_quality` wrote to `report`.

    Raises:
        ValueError: one of the two is not what it should be.
    """
    try:
        figures = json.loads(report.read_text(encoding="utf-8"))
        made = "\n\n".join([FIRST, *_sections(figures)])
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{report} is no report of tests.model_quality: {error}") from error
    text = card.read_text(encoding="utf-8")
    if FIRST not in text or LAST not in text:
        raise ValueError(f"{card} has no part between {FIRST!r} and {LAST!r}")
    card.write_text(text[: text.index(FIRST)] + made + "\n\n" + text[text.index(LAST) :], encoding="utf-8")


def _sections(figures: dict[str, Any]) -> list[str]:
    wrong = ", ".join(f'"{wording}"' for wording in figures["paraphrases"]["wrong"]) or "none"
    return [
        f"`python -m tests.model_quality --photos DIR --data DIR --run RUN --report quality.json --count "
        f"{figures['held_out']}`, on {figures['held_out']} held-out\nphotos, default strength 0.8.",
        _table(["", "measured", "wanted"], _overall(figures)),
        f"The judges that name styles learnt from {figures['train']} training photos' pictures. The first tells by the "
        f"features that the training's\nperceptual loss uses too, the other by colours, contrasts and edges. They are "
        f"right on {_percent(figures['classifier_on_teachers'])} and "
        f"{_percent(figures['pixel_classifier_on_teachers'])} of the teachers' own pictures\nof held-out photos, on "
        f"{_percent(figures['classifier_on_coded_teachers'])} and "
        f"{_percent(figures['pixel_classifier_on_coded_teachers'])} of them once they went through the autoencoder.",
        _table(
            ["style", "named right, 1 step", "4 steps", "distance ratio, 1 step", "4 steps", "steadiness"],
            _styles(figures),
        ),
        f"Wordings found wrong: {wrong}.",
    ]


def _overall(figures: dict[str, Any]) -> list[list[str]]:
    one, four, pictures = figures["one_step"], figures["four_steps"], figures["pictures"]
    steady = [figures["steady"][style] for style in STYLES]
    times, wordings, guidance = figures["disk_and_time"], figures["paraphrases"], figures["guidance"]
    named = {"one step": one, "four steps": four}
    return [
        ["autoencoder alone, photos", f"{pictures['autoencoder_db']:.1f} dB", "27 dB"],
        ["autoencoder alone, styled pictures", f"{pictures['autoencoder_styled_db']:.1f} dB", ""],
        [
            '"a photo", empty prompt',
            f"{pictures['identity_db']['a photo']:.1f} dB, {pictures['identity_db']['empty prompt']:.1f} dB",
            "1 dB below the autoencoder at most",
        ],
        *(
            [
                f"style named right, {steps} (mean; worst)",
                f"{_percent(found['recognised_mean'])}; {_percent(min(found['recognised'].values()))}",
                "95 %; 85 %",
            ]
            for steps, found in named.items()
        ),
        *(
            [
                f"the same by a judge that shares nothing with the training, {steps}",
                f"{_percent(found['recognised_by_pixels_mean'])}; "
                f"{_percent(min(found['recognised_by_pixels'].values()))}",
                "",
            ]
            for steps, found in named.items()
        ),
        *(
            [f"distance to teacher over photo's own, {steps}", f"{found['teacher_distance_ratio_mean']:.2f}", "0.5"]
            for steps, found in named.items()
        ),
        [
            "the same of the autoencoder alone, on the teachers' pictures",
            f"{pictures['autoencoder_distance_ratio_mean']:.2f}",
            "",
        ],
        [
            "change in still background over the clip's own (mean; worst style)",
            f"{sum(steady) / len(steady):.2f}; {max(steady):.2f}",
            "1.5",
        ],
        [
            "styles whose distance to the input only grows with strength",
            f"{len(figures['strength']['monotone'])} of {len(STYLES) - 1}",
            "all",
        ],
        [
            "trained wordings; held-out wordings found right",
            f"{_percent(wordings['trained'])}; {_percent(wordings['held_out'])}",
            "",
        ],
        [
            "styles with three wordings found right, one of them never trained on",
            f"{_well_worded(wordings['wrong'])} of {len(STYLES)}",
            "all",
        ],
        [
            "styles that a negative prompt moves away from",
            f"{round((len(STYLES) - 1) * guidance['moved_away_share'])} of {len(STYLES) - 1}",
            "all",
        ],
        [
            "pixels that guidance up to 2 drives to white or black from inside the range, worst style",
            f"{100 * guidance['worst_burnt']:.1f} %",
            "0",
        ],
        [
            f"encode, UNet, decode, {times['dtype'].removeprefix('torch.')}, PyTorch",
            ", ".join(f"{times['stages_ms'][stage]:.0f}" for stage in ("encode", "unet", "decode")) + " ms",
            "",
        ],
        ["on disk", f"{times['megabytes']:.1f} MB", "25 MB"],
    ]


def _well_worded(wrong: Sequence[str]) -> int:
    """Styles of which three of the wordings that are asked for are found right, one held out among them."""
    found = [
        ([text not in wrong for text in style.trained[1:4]], [text not in wrong for text in style.held_out])
        for style in STYLES.values()
    ]
    return sum(sum(trained) + sum(held_out) >= 3 and any(held_out) for trained, held_out in found)


def _styles(figures: dict[str, Any]) -> list[list[str]]:
    found = [figures["one_step"], figures["four_steps"]]
    rows = []
    for key, style in STYLES.items():
        ratios = [steps["teacher_distance_ratio"].get(key) for steps in found]
        rows.append(
            [
                style.name,
                *(_percent(steps["recognised"][key]) for steps in found),
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                f"{figures['steady'][key]:.2f}",
            ]
        )
    return rows


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
