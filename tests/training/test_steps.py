"""One tiny step of each training, and the pieces they are made of. No data outside the repository is needed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from assets.training.__main__ import main
from assets.training.autoencoder import LATENT_CHANNELS, new_autoencoder, start_from_components
from assets.training.latents import decode, encode
from assets.training.prompts import random_prompt
from assets.training.schedule import add_noise, alphas_cumprod, style_amount
from assets.training.store import Average, cosine_rate, load_checkpoint, load_parts, save_checkpoint, save_parts
from assets.training.text import END, Heads, new_text_encoder, text_loss, token_id, tokenize
from assets.training.unet import latent_loss, new_unet

MODEL = Path(__file__).parents[2] / "assets" / "models" / "vitrail-mini"


def test_autoencoder_starts_with_unit_latents_and_learns() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(4, 3, 64, 64).round(decimals=1)
    pictures = torch.nn.functional.interpolate(pictures[:, :, ::8, ::8], size=64, mode="bilinear")
    model = new_autoencoder()
    start_from_components(model, pictures)
    latents = model.encoder(pictures * 2 - 1).detach()
    assert latents.shape == (4, LATENT_CHANNELS, 8, 8)
    assert 0.3 < float(latents[:, :4].std()) < 1.5
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = (model.decoder(model.encoder(pictures * 2 - 1)) / 2 + 0.5 - pictures).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_pictures_to_latents_and_back_keep_shapes() -> None:
    model = new_autoencoder().eval()
    pictures = np.zeros((2, 32, 48, 3), np.uint8)
    latents = encode(model, pictures)
    assert latents.shape == (2, LATENT_CHANNELS, 4, 6)
    made = decode(model, latents)
    assert made.shape == pictures.shape
    assert made.dtype == np.uint8


def test_unet_step() -> None:
    torch.manual_seed(0)
    unet = new_unet()
    average = Average(unet, 0.9)
    made = unet(torch.randn(2, 2 * LATENT_CHANNELS, 16, 16), torch.tensor([10, 900]), torch.randn(2, 77, 192)).sample
    assert made.shape == (2, LATENT_CHANNELS, 16, 16)
    loss = latent_loss(made, torch.zeros_like(made))
    loss.backward()
    assert all(p.grad is not None for p in unet.parameters())
    average.update(unet, 0)


def test_text_step() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(str(MODEL / "tokenizer"))
    encoder, heads = new_text_encoder(tokenizer), Heads()
    random = np.random.default_rng(0)
    first = [random_prompt(random) for _ in range(3)]
    prompts = first + [random_prompt(random, (), prompt.style, prompt.tint) for prompt in first]
    ids = tokenize(tokenizer, [prompt.text for prompt in prompts])
    assert ids.shape == (6, 77)
    end = token_id(tokenizer, END)
    loss = text_loss(encoder, heads, ids, prompts, end)
    loss.backward()
    assert torch.isfinite(loss)


def test_schedule() -> None:
    kept = alphas_cumprod()
    assert kept.shape == (1000,)
    assert (kept[1:] < kept[:-1]).all()
    amount = style_amount(torch.tensor([0, 500, 799, 999]))
    assert float(amount[0]) == 0
    assert float(amount[3]) == pytest.approx(1)
    assert (amount[1:] > amount[:-1]).all()
    latents, noise = torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    assert add_noise(latents, noise, torch.tensor([0])).mean() == pytest.approx(float(kept[0]) ** 0.5)


def test_rate_rises_then_falls() -> None:
    rates = [cosine_rate(step, 1000, 1.0) for step in (0, 99, 500, 999)]
    assert rates[0] < rates[1]
    assert rates[1] > rates[2] > rates[3] > 0


def test_checkpoint_is_read_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a" / "x.pt", {"step": 3, "values": torch.ones(2)})
    state = load_checkpoint(tmp_path / "a" / "x.pt")
    assert state["step"] == 3
    assert not list(tmp_path.rglob("*.tmp"))


def test_training_goes_on_as_if_never_cut(tmp_path: Path) -> None:
    def start(seed: int) -> tuple[nn.Linear, torch.optim.Optimizer, Average]:
        torch.manual_seed(seed)
        module = nn.Linear(3, 2)
        return module, torch.optim.AdamW(module.parameters()), Average(module, 0.9)

    def learn(module: nn.Linear, optimizer: torch.optim.Optimizer, average: Average, step: int) -> dict[str, Tensor]:
        module(torch.full((1, 3), 1.0 + step)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(module, step)
        return {name: value.clone() for name, value in average.state_dict().items()}

    first, other = start(0), start(1)
    names = ("model", "optimizer", "average")
    for step in range(3):
        learn(*first, step)
    save_parts(tmp_path / "x.pt", dict(zip(names, first, strict=True)), 3)
    assert load_parts(tmp_path / "x.pt", dict(zip(names, other, strict=True))) == 3
    torch.testing.assert_close(learn(*other, 3), learn(*first, 3), rtol=0, atol=0)


@pytest.mark.parametrize(
    "line",
    [
        "prepare",
        "prepare --photos none",
        "unet",
        "text --data none",
        "unet --minutes 0 --data x",
        "export extra",
        "frames",
    ],
)
def test_misuse_is_one_line_and_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
