"""What the UNet is trained on: batches of (photo latent, noisy latent, timestep, prompt states, wanted latent)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from assets.training.latents import CELLS, LatentStore
from assets.training.prompts import STYLE_IDS, TINT_IDS, random_prompt
from assets.training.schedule import TRAIN_STEPS, add_noise, style_amount
from assets.training.store import load_checkpoint, save_checkpoint
from assets.training.text import encode_texts, english_words, load_text

PROMPTS_PER_WISH = 28
PLAIN_PROMPTS = 200
# A camera's noise, in latents: successive frames of a still wall differ by about 0.03. The answer shall not follow it.
INPUT_NOISE = 0.12
# The last samples of a batch are pairs, one after the other: alike but for so much of it, as successive frames are.
PAIRS, FLICKER = 3, 0.05
# How often a style is drawn, 1 where it is not named: these take longer to learn.
OFTEN = {
    "ink": 2.5,
    "anime": 2.0,
    "comic": 1.7,
    "watercolour": 1.7,
    "stained_glass": 1.7,
    "van_gogh": 1.3,
    "pixel_art": 1.2,
}
# Of a batch, how many samples are a later step of the UNet's own run, and the share of the others that are a later step
# of a run through the teacher's picture.
ROLLED, THROUGH_TEACHER = 6, 0.1
SHARE_PHOTO, SHARE_TINTED_PHOTO, SHARE_TINTED = 0.13, 0.08, 0.11  # the rest: one style, no tint


@dataclass(frozen=True)
class Batch:
    """All tensors on one device; latents are (B, 16, h, w) float32 and scaled.

    `began` is the timestep at which the run of a sample began, which is what the UNet is told at each of its steps:
    how strong the style shall be hangs on it. `timesteps`, at most `began`, says how noisy `noisy` is, which the UNet
    sees for itself. `amount` in 0..1 is how far `wanted` lies on the way from the photo to its picture; `wishes`
    numbers style and tint. The last 2 x PAIRS rows are pairs that differ by a camera's noise and nothing else.
    """

    photo: Tensor
    noise: Tensor
    noisy: Tensor
    wanted: Tensor
    amount: Tensor
    timesteps: Tensor
    began: Tensor
    states: Tensor
    wishes: Tensor


def build_prompt_pool(run: Path, seed: int) -> dict[tuple[int, int], Tensor]:
    """States of many wordings of every (style, tint): (n, 77, d) float16 each; kept in `run/prompts.pt`."""
    path = run / "prompts.pt"
    if path.is_file() and path.stat().st_mtime > (run / "text.pt").stat().st_mtime:
        stored = load_checkpoint(path)
        return {(int(key.split()[0]), int(key.split()[1])): value for key, value in stored.items()}
    tokenizer, encoder = load_text(run)
    words = english_words(tokenizer)
    random = np.random.default_rng((seed, 11))
    pool: dict[tuple[int, int], Tensor] = {}
    for style in range(len(STYLE_IDS)):
        for tint in range(len(TINT_IDS)):
            count = PLAIN_PROMPTS if style == tint == 0 else 3 * PROMPTS_PER_WISH if tint == 0 else PROMPTS_PER_WISH
            texts = [random_prompt(random, words, style, tint).text for _ in range(count)]
            if style == tint == 0:
                texts[:20] = [""] * 20  # the empty prompt is the one that every guidance uses
            pool[style, tint] = encode_texts(tokenizer, encoder, texts).half()
    save_checkpoint(path, {f"{style} {tint}": value for (style, tint), value in pool.items()})
    return pool


class Sampler:
    """Draws batches; the same for the same seed and step."""

    def __init__(self, run: Path, seed: int, where: torch.device) -> None:
        self.store = LatentStore(run)
        self.pool = build_prompt_pool(run, seed)
        self.seed = seed
        self.where = where
        often = np.array([OFTEN.get(name, 1.0) for name in STYLE_IDS[1:]])
        self.shares = often / often.sum()

    def _draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, int]:
        """(photo latent, styled latent, style, tint) of one sample."""
        store, kind = self.store, random.random()
        if kind < SHARE_PHOTO:
            rows = store.rows[0]
            photo = store.arrays[0][rows[random.integers(len(rows))]]
            return photo, photo, 0, 0
        if kind < SHARE_PHOTO + SHARE_TINTED_PHOTO + SHARE_TINTED:
            options = store.tinted_photos if kind < SHARE_PHOTO + SHARE_TINTED_PHOTO else store.tinted_styled
            index = options[random.integers(len(options))]
            row, style, tint = store.plan[index]
            return store.arrays[0][row], store.tinted[index], style, tint
        style = 1 + int(random.choice(len(self.shares), p=self.shares))
        row = store.rows[style][random.integers(len(store.rows[style]))]
        return store.arrays[0][row], store.arrays[style][row], style, 0

    def batch(self, step: int, size: int, cells: int = CELLS) -> Batch:
        """`size` rows, each a random `cells` x `cells` piece of its latents."""
        random = np.random.default_rng((self.seed, step))
        photos, styled, states, wishes = [], [], [], []
        twins = _twins(size)
        for _ in range(size - PAIRS):
            photo, picture, style, tint = self._draw(random)
            top, left = random.integers(0, CELLS - cells + 1, 2)
            photos.append(photo[:, top : top + cells, left : left + cells])
            styled.append(picture[:, top : top + cells, left : left + cells])
            wordings = self.pool[style, tint]
            states.append(wordings[int(random.integers(len(wordings)))])
            wishes.append(style * len(TINT_IDS) + tint)

        def here(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(self.where)

        photo, full = (here(np.stack(a)[twins]).float() for a in (photos, styled))
        began = here(_timesteps(random, size)[twins])
        # The first rows are later steps, to be rolled out; of the others, few.
        later = here(((np.arange(size) < ROLLED) | (random.random(size) < THROUGH_TEACHER))[twins])
        timesteps = torch.where(later, (began * here(random.random(size)[twins])).long(), began)
        amount = style_amount(began)
        noise, grain = (here(random.standard_normal(photo.shape, dtype=np.float32)[twins]) for _ in range(2))
        wanted = torch.lerp(photo, full, amount[:, None, None, None])
        seen = photo + INPUT_NOISE * here(random.random((size, 1, 1, 1), dtype=np.float32)[twins]) * grain
        paired = seen[-2 * PAIRS :]
        paired += FLICKER * here(random.standard_normal(paired.shape, dtype=np.float32))
        # A later step of a run sees the style that the run has made already; the first one sees the photo.
        start = torch.where(later[:, None, None, None], wanted, seen)
        return Batch(
            photo=seen,
            noise=noise,
            noisy=add_noise(start, noise, timesteps),
            wanted=wanted,
            amount=amount,
            timesteps=timesteps,
            began=began,
            states=torch.stack(states)[torch.from_numpy(twins)].float().to(self.where),
            wishes=here(np.array(wishes, np.int64)[twins]),
        )


def _twins(size: int) -> np.ndarray:
    """(size,) int64: which drawn sample each row of a batch shows; the last PAIRS ones are shown twice."""
    single = size - 2 * PAIRS
    return np.concatenate([np.arange(single), np.arange(single, single + PAIRS).repeat(2)])


def _timesteps(random: np.random.Generator, size: int) -> np.ndarray:
    """(size,) int64: half anywhere, most of the rest in the upper half, a few at the very end."""
    kind = random.random(size)
    anywhere = random.integers(0, TRAIN_STEPS, size)
    upper = random.integers(TRAIN_STEPS // 2, TRAIN_STEPS, size)
    made = np.where(kind < 0.5, anywhere, np.where(kind < 0.95, upper, TRAIN_STEPS - 1))
    return made.astype(np.int64)
