"""Whether windows are surrounded is found out on the first changes, and they are right afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import Stream, StreamConfig, load_model
from pipeline.models.model import Model
from pipeline.models.networks import DenoiserNetwork
from pipeline.models.residency import DENOISER
from pipeline.sparse.costs import Costs
from pipeline.sparse.networks import WindowNetwork
from pipeline.sparse.rectangles import Window
from pipeline.sparse.trial import MOST_ERROR, TRIALS, Trial, error_of
from tests.checkpoints import shelved
from tests.pipeline.sparse.bench import Bench, pixels
from tests.pipeline.sparse.test_windowed_autoencoder import given
from tests.tiny_model import tiny_model

SIDE = 48
PLACE = (19, 19, 25, 25)  # 1.6 % of the picture


@pytest.fixture(autouse=True)
def _windows_whatever_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "note", lambda *_: None)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


def wrong(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square error inside the change, as a share of the whole output's."""
    left, top, right, bottom = PLACE
    inside = (found - expected)[..., top:bottom, left:right]
    return float((inside.square().mean() / expected.square().mean()).sqrt())


def calm(model: Model) -> Model:
    """``model`` without what makes prompts matter, after which a small change decides on all of the picture."""
    with model.residency.changing(DENOISER), torch.no_grad():
        for name, weight in model.unet.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight", "attn2.to_v.weight")):
                weight.div_(6)
    return model


def test_in_stable_diffusions_layout_windows_are_surrounded_and_right(shelf: Path) -> None:
    model = calm(load_model(str(shelved("sd15", shelf)), device="cpu", dtype="float32"))
    bench = Bench(model=model, size=(SIDE, SIDE))
    change = [(pixels(*PLACE),)]
    bench(bench.before, [None])
    seed = 10
    while not bench.sparse._trial.over:
        latents = bench.changed([PLACE], seed)
        found = bench(latents, change)
        assert torch.equal(found, bench.dense(latents)), "what is being tried is not shown"
        seed += 1
        assert seed < 30
    assert bench.sparse._trial.surrounds
    latents = bench.changed([PLACE], 5)
    expected = bench.dense(latents)
    for _ in range(2):
        assert wrong(bench.dense(bench.before), expected) > 0.3
        assert wrong(bench(latents, change), expected) < 0.06
        assert bench.sparse.share < 0.12
    between_zeros = Bench(model=model, size=(SIDE, SIDE), surrounded=False)
    between_zeros(bench.before, [None])
    assert wrong(between_zeros(latents, change), expected) > 0.1


def test_of_the_embedded_model_they_are_not() -> None:
    """Its windows are right between zeros, which costs less."""
    model = load_model(device="cpu", dtype="float32")
    stream = Stream(model, StreamConfig(prompt="a watercolour", sparse=True))
    scene, other = given((256, 256), 0)[0], given((256, 256), 1)[0]
    for number in range(TRIALS + 2):
        frame = scene.clone()
        frame[:, 64:120, 80:136] = other[:, 64:120, 80:136] * (1 + number % 2) / 2
        stream(frame)
    assert stream.sparse is not None
    assert stream.sparse._unet is not None
    trial = stream.sparse._unet._trial
    assert trial.over
    assert not trial.surrounds
    stream.close()


def test_zeros_are_kept_where_all_changes_that_are_tried_come_out_right() -> None:
    trial = Trial()
    for _ in range(TRIALS):
        assert not trial.over
        trial = after(trial, 0.9 * MOST_ERROR)
    assert trial.over
    assert not trial.surrounds


def test_one_change_that_comes_out_wrong_is_enough() -> None:
    trial = after(after(Trial(), 0.0), 2 * MOST_ERROR)
    assert trial.surrounds
    assert not trial.over
    for _ in range(TRIALS):
        trial = after(trial, 0.1 * MOST_ERROR)
    assert trial.over
    assert trial.surrounds


def test_windows_are_surrounded_only_where_that_mends_what_is_wrong() -> None:
    """The norms are out of date either way where much of the picture changed."""
    trial = after(after(Trial(), 2 * MOST_ERROR), 1.9 * MOST_ERROR)
    assert not trial.surrounds
    for _ in range(TRIALS - 1):
        assert not trial.over
        trial = after(trial, 2 * MOST_ERROR)
    assert trial.over
    assert not trial.surrounds


def after(trial: Trial, error: float) -> Trial:
    """Once a window has been tried whose error is this share of the whole's root mean square."""
    whole = torch.ones(1, 4, 8, 8)
    found = whole.clone()
    found[..., 2:4, 2:4] += error
    return trial.after(float(error_of(found, whole, [(0, Window((2, 2, 4, 4), (0, 0, 8, 8)))])))


def test_with_other_weights_zeros_are_tried_again() -> None:
    bench = Bench(surrounded=False)
    bench.sparse.weights_changed()
    assert not bench.sparse._trial.over
    bench = Bench(surrounded=True)
    bench.sparse.weights_changed()
    assert bench.sparse._trial.surrounds
    assert bench.sparse._trial.over


def test_what_surrounds_a_window_is_recorded_from_then_on() -> None:
    model = tiny_model()
    bench = Bench(model=model, surrounded=True)
    bench(bench.before, [None])
    bench(bench.mixed(0, 8, 8, 10, 10), [(pixels(8, 8, 10, 10),)])
    names = [name for name, _ in bench.backend.calls]
    assert names == ["denoiser/recording/surrounded", WindowNetwork(model, surrounded=True).name]
    assert DenoiserNetwork.name not in names
