"""Trains the text encoder: a small CLIPTextModel that maps all wordings of a style to nearly the same states.

It learns by naming style and tint of a prompt from the states behind the last word (all of which see the whole text,
attention being causal), and by giving two wordings of the same wish the same states. Then it is frozen.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from assets.training.prompts import STYLE_IDS, TINT_IDS, Prompt, held_out_prompts, random_prompt
from assets.training.store import (
    cosine_rate,
    device,
    load_checkpoint,
    load_parts,
    place,
    save_parts,
    set_rate,
    steps_with_clock,
)
from assets.training.vocabulary import STYLES, TINTS

log = logging.getLogger(__name__)

MERGES = 3600
WIDTH = 192
LENGTH = 77
BATCH = 64
STEPS = 700
RATE = 1.5e-3
START, END = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer(source: Path, out: Path) -> CLIPTokenizer:
    """Cut CLIP's vocabulary (`source`: vocab.json, merges.txt) to its 512 bytes, MERGES merges and two specials."""
    lines = (source / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = lines[1 : 1 + MERGES]
    full = json.loads((source / "vocab.json").read_text(encoding="utf-8"))
    tokens = sorted(full, key=full.__getitem__)[:512] + [merge.replace(" ", "") for merge in merges] + [START, END]
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (out / "merges.txt").write_text("\n".join([lines[0], *merges]) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(out / "vocab.json"), str(out / "merges.txt"), model_max_length=LENGTH)
    tokenizer.save_pretrained(str(out))
    return tokenizer


def token_id(tokenizer: CLIPTokenizer, token: str) -> int:
    """The number of one token."""
    return tokenizer.get_vocab()[token]


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Untrained."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=token_id(tokenizer, START),
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, END),
    )
    return CLIPTextModel(config)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """(B, 77) token numbers, padded with the end token."""
    made = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return made.input_ids


def english_words(tokenizer: CLIPTokenizer) -> tuple[str, ...]:
    """Words of the vocabulary that name no style and no tint: what prompts may carry without meaning anything."""
    entries = [*STYLES.values(), *TINTS.values()]
    meant = {word for entry in entries for text in entry.trained + entry.held_out for word in text.split()}
    words = [token[:-4] for token in tokenizer.get_vocab() if token.endswith("</w>") and token[:-4].isalpha()]
    return tuple(sorted(word for word in words if len(word) > 2 and word.isascii() and word not in meant))


class Heads(nn.Module):
    """Reads style and tint off the mean state behind the last word; thrown away after training."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Linear(WIDTH, len(STYLE_IDS))
        self.tint = nn.Linear(WIDTH, len(TINT_IDS))

    def forward(self, states: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 77, WIDTH) states and (B, 77) mask of what lies behind the text -> two rows of scores."""
        pooled = (states * after[..., None]).sum(1) / after.sum(1, keepdim=True)
        return self.style(pooled), self.tint(pooled)


def _pairs(random: np.random.Generator, words: tuple[str, ...]) -> list[Prompt]:
    """BATCH prompts; the second half wishes the same as the first, in other words."""
    first = [random_prompt(random, words) for _ in range(BATCH // 2)]
    return first + [random_prompt(random, words, prompt.style, prompt.tint) for prompt in first]


def text_loss(encoder: CLIPTextModel, heads: Heads, ids: Tensor, prompts: list[Prompt], end: int) -> Tensor:
    """Naming loss plus distance between the two halves' states, counted fully behind both texts, a little elsewhere."""
    states = encoder(input_ids=ids).last_hidden_state
    after = ids.eq(end).float()
    style, tint = heads(states, after)
    wanted_style = torch.tensor([prompt.style for prompt in prompts], device=ids.device)
    wanted_tint = torch.tensor([prompt.tint for prompt in prompts], device=ids.device)
    naming = F.cross_entropy(style, wanted_style, label_smoothing=0.02) + F.cross_entropy(
        tint, wanted_tint, label_smoothing=0.02
    )
    half = len(prompts) // 2
    apart = (states[:half] - states[half:]).square().mean(2)
    weight = 0.1 + 0.9 * after[:half] * after[half:]
    return naming + 2.0 * (apart * weight).sum() / weight.sum()


@torch.no_grad()
def held_out_accuracy(encoder: CLIPTextModel, heads: Heads, tokenizer: CLIPTokenizer) -> tuple[float, list[str]]:
    """Share of held-out phrases whose style and tint are both named right, and those that are not."""
    prompts = held_out_prompts()
    ids = tokenize(tokenizer, [prompt.text for prompt in prompts]).to(next(encoder.parameters()).device)
    after = ids.eq(token_id(tokenizer, END)).float()
    style, tint = (scores.argmax(1).tolist() for scores in heads(encoder(input_ids=ids).last_hidden_state, after))
    wrong = [p.text for p, s, t in zip(prompts, style, tint, strict=True) if (s, t) != (p.style, p.tint)]
    return 1 - len(wrong) / len(prompts), wrong


def train_text(run: Path, data: Path, minutes: float, resume: bool, seed: int, steps: int = STEPS) -> None:
    """Train to `run/text.pt` (and the tokenizer to `run/tokenizer`)."""
    torch.manual_seed(seed)
    where = device()
    tokenizer = make_tokenizer(data / "tokenizer", run / "tokenizer")
    encoder, heads = new_text_encoder(tokenizer), Heads()
    place(encoder, where)
    place(heads, where)
    words, end = english_words(tokenizer), token_id(tokenizer, END)
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.02)
    checkpoint, parts = run / "text.pt", {"model": encoder, "heads": heads, "optimizer": optimizer}
    start = load_parts(checkpoint, parts) if resume and checkpoint.is_file() else 0
    encoder.train()
    step = start - 1
    for step in steps_with_clock("text encoder", start, steps, minutes):
        set_rate(optimizer, cosine_rate(step, steps, RATE))
        prompts = _pairs(np.random.default_rng((seed, step)), words)
        ids = tokenize(tokenizer, [prompt.text for prompt in prompts]).to(where)
        with torch.autocast(where.type, torch.bfloat16):
            loss = text_loss(encoder, heads, ids, prompts, end)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99:
            right, wrong = held_out_accuracy(encoder, heads, tokenizer)
            log.info(
                "text step %d  loss %.4f  held-out %.1f %%  wrong: %s",
                step + 1,
                float(loss.detach()),
                100 * right,
                wrong[:6],
            )
            save_parts(checkpoint, parts, step + 1)
    save_parts(checkpoint, parts, step + 1)


def load_text(run: Path) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Tokenizer and frozen encoder of `run`."""
    tokenizer = CLIPTokenizer.from_pretrained(str(run / "tokenizer"))
    encoder = new_text_encoder(tokenizer)
    encoder.load_state_dict(load_checkpoint(run / "text.pt")["model"])
    return tokenizer, encoder.eval().requires_grad_(False)


@torch.no_grad()
def encode_texts(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, texts: list[str]) -> Tensor:
    """(B, 77, WIDTH) float32 states, as the UNet is given them."""
    return torch.cat([
        encoder(input_ids=tokenize(tokenizer, texts[start : start + 64])).last_hidden_state
        for start in range(0, len(texts), 64)
    ])  # fmt: skip
