"""A run made of an exported model: its weights are those of the model, and training goes on from them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from assets.training.__main__ import NEEDED, main
from assets.training.adopt import adopt
from assets.training.autoencoder import load_autoencoder
from assets.training.store import Average, is_adopted, load_parts
from assets.training.text import encode_texts, load_text
from assets.training.unet import load_unet, new_unet
from pipeline.models import EMBEDDED_PATH

FILE = "diffusion_pytorch_model.safetensors"


def test_a_run_has_the_models_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    adopt(EMBEDDED_PATH, run)
    assert is_adopted(run)
    assert not is_adopted(tmp_path)
    for module, folder in ((load_unet(run), "unet"), (load_autoencoder(run), "vae")):
        stored = load_file(EMBEDDED_PATH / folder / FILE)
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, stored[name].float(), rtol=0, atol=0)
    assert (
        load_autoencoder(run).config["scaling_factor"]
        == json.loads((EMBEDDED_PATH / "vae" / "config.json").read_text(encoding="utf-8"))["scaling_factor"]
    )
    tokenizer, encoder = load_text(run)
    watercolour, neon = encode_texts(tokenizer, encoder, ["a watercolour", "neon"])
    assert float((watercolour - neon).abs().max()) > 0.1


def test_training_goes_on_from_weights_alone(tmp_path: Path) -> None:
    adopt(EMBEDDED_PATH, tmp_path)
    unet, average = new_unet(), Average(new_unet(), 0.9)
    optimizer = torch.optim.AdamW(unet.parameters())
    assert load_parts(tmp_path / "unet.pt", {"model": unet, "optimizer": optimizer, "average": average}) == 0
    stored = load_file(EMBEDDED_PATH / "unet" / FILE)
    for weights in (unet.state_dict(), average.state_dict()):
        torch.testing.assert_close(weights["conv_in.weight"], stored["conv_in.weight"].float(), rtol=0, atol=0)


def test_a_training_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", "--out", str(tmp_path / "run")]) == 0
    assert main(["adopt", "--out", str(tmp_path / "run")]) == 2
    assert "take another --out" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["autoencoder", "text", "unet", "decoder"])
def test_an_adopted_training_must_be_resumed(tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    adopt(EMBEDDED_PATH, run)
    for name in NEEDED:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    assert main([part, "--data", str(data), "--out", str(run)]) == 2
    assert "add --resume" in capsys.readouterr().err


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (shutil.rmtree, "lacks model_index.json"),
    "no tokenizer": (lambda model: shutil.rmtree(model / "tokenizer"), "lacks tokenizer"),
    "no weights": (lambda model: (model / "unet" / FILE).unlink(), "lacks unet"),
    "no scale": (lambda model: (model / "vae" / "config.json").write_text("{}"), "no scaling_factor"),
    "torn config": (lambda model: (model / "vae" / "config.json").write_text("{"), "no scaling_factor"),
    "torn": (lambda model: (model / "unet" / FILE).write_bytes(b"torn"), "does not hold weights"),
    "other": (lambda model: shutil.copy(model / "vae" / FILE, model / "unet" / FILE), "does not hold weights"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_such_model_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    shutil.copytree(EMBEDDED_PATH, model)
    spoil, message = BROKEN[kind]
    spoil(model)
    assert main(["adopt", "--model", str(model), "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()
    assert message in capsys.readouterr().err


def test_parts_are_only_left_out_at_the_start(tmp_path: Path) -> None:
    adopt(EMBEDDED_PATH, tmp_path)
    state = torch.load(tmp_path / "decoder.pt", weights_only=True)
    torch.save({**state, "step": 5}, tmp_path / "decoder.pt")
    decoder: nn.Module = load_autoencoder(tmp_path).decoder
    with pytest.raises(KeyError):
        load_parts(tmp_path / "decoder.pt", {"optimizer": torch.optim.AdamW(decoder.parameters())})
