"""Prompts say what they are labelled as, and never what is kept for the test."""

import numpy as np

from assets.training.prompts import HELD_OUT, STYLE_IDS, TINT_IDS, held_out_prompts, random_prompt
from assets.training.vocabulary import STYLES, TINTS


def test_same_seed_same_prompts() -> None:
    def draw() -> list[str]:
        random = np.random.default_rng(3)
        return [random_prompt(random, ("banana",)).text for _ in range(50)]

    assert draw() == draw()


def test_labels_are_kept_and_held_out_phrases_never_appear() -> None:
    random = np.random.default_rng(0)
    for index in range(3000):
        style, tint = index % len(STYLE_IDS), index % len(TINT_IDS)
        prompt = random_prompt(random, ("banana", "spoon"), style, tint)
        assert (prompt.style, prompt.tint) == (style, tint)
        assert "{" not in prompt.text
        assert not any(held in prompt.text.lower() for held in HELD_OUT)


def test_empty_prompt_means_photo() -> None:
    random = np.random.default_rng(1)
    prompts = [random_prompt(random) for _ in range(4000)]
    empty = [prompt for prompt in prompts if not prompt.text]
    assert empty
    assert all(prompt.style == 0 and prompt.tint == 0 for prompt in empty)


def test_every_style_has_trained_and_held_out_wordings() -> None:
    for entry in STYLES.values():
        assert len(entry.trained) >= 3
        assert len(entry.held_out) >= 3
        assert entry.prompt in entry.trained
        assert not set(entry.trained) & set(entry.held_out)
    expected = sum(len(entry.held_out) for entry in (*STYLES.values(), *TINTS.values()))
    assert len(held_out_prompts()) == expected
