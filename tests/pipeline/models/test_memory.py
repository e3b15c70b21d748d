"""Running a model in less memory: the same pictures in slices, weights that are lent to the device layer by layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import GUIDANCE_KINDS, Model, Stream, StreamConfig, load_model
from pipeline.backends.sliced import SlicedBackend, _SlicedAttention
from pipeline.config import MEMORY_MODES
from pipeline.models.memory import LayerOffload
from pipeline.models.networks import DenoiserNetwork, sharing_weights
from tests.adapters import write_lora
from tests.checkpoints import write_model
from tests.pipeline.backends.calls import decoded
from tests.tiny_model import write_tiny_model

CLOSE = 2e-4  # the checkpoints' decoder has twenty times the contrast of a real one
BASE = StreamConfig(prompt="a cat", negative_prompt="grey", steps=3, strength=0.7, solver="dpmpp-2m", guidance_scale=2)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"tiny": write_tiny_model(folder / "tiny", sees_input=True), "sdxl": write_model(folder / "sdxl", "sdxl")}


@pytest.fixture(params=["tiny", "sdxl"])
def model(request: pytest.FixtureRequest, shelf: dict[str, Path]) -> Model:
    return load_model(str(shelf[request.param]), device="cpu", dtype="float32")


def frames(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def pictures(stream: Stream) -> torch.Tensor:
    return torch.cat([stream(group).image for group in frames(6).split(2)])


@pytest.mark.parametrize(("kind", "guidance"), [*(("tiny", kind) for kind in GUIDANCE_KINDS), ("sdxl", "full")])
def test_slices_make_the_same_pictures(
    kind: str, guidance: str, shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(shelf[kind]), device="cpu", dtype="float32")
    monkeypatch.setattr("pipeline.backends.sliced._QUERIES", 7)
    config = replace(BASE, guidance=guidance)
    expected = pictures(Stream(model, config))
    most: list[int] = []
    forward = type(model.unet).forward

    def counted(self: Any, rows: torch.Tensor, *given: Any, **named: Any) -> Any:
        most.append(len(rows))
        return forward(self, rows, *given, **named)

    monkeypatch.setattr(type(model.unet), "forward", counted)
    for mode in ("sliced", "offload", "sliced"):
        stream = Stream(model, config)
        stream.save_memory(mode)
        torch.testing.assert_close(pictures(stream), expected, atol=CLOSE, rtol=0)
    assert max(most) <= 2


def test_a_mode_may_change_between_any_two_frames(model: Model) -> None:
    streams = [Stream(model, BASE), Stream(model, BASE)]
    clip = frames(7).split(1)
    expected = [streams[0](frame).image for frame in clip]
    for index, frame in enumerate(clip):
        streams[1].save_memory(MEMORY_MODES[(index * 2) % 3])
        torch.testing.assert_close(streams[1](frame).image, expected[index], atol=CLOSE, rtol=0)


def test_every_way_leads_back(model: Model) -> None:
    def state() -> list[Any]:
        processors = [getattr(module, "processor", None) for module in model.unet.modules()]
        hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.unet.modules()]
        return [processors, hooks, [id(one) for one in model.unet.parameters()]]

    before = state()
    for mode in ("sliced", "offload", "full", "offload", "sliced", "full"):
        model.memory.set(mode)
        assert (state() == before) == (mode != "offload"), mode
    with pytest.raises(ValueError, match="must be one of full, sliced, offload"):
        model.memory.set("little")


def test_only_plain_self_attentions_are_sliced_and_only_in_the_backends_own_module(model: Model) -> None:
    module = SlicedBackend(model)._made(DenoiserNetwork(model))
    sliced = [
        name for name, one in module.named_modules() if isinstance(getattr(one, "processor", None), _SlicedAttention)
    ]
    assert sliced == [name for name, _ in module.named_modules() if name.endswith("attn1")] != []
    assert not any(isinstance(getattr(one, "processor", None), _SlicedAttention) for one in model.unet.modules())


def test_a_full_autoencoder_goes_over_large_pictures_in_tiles(
    shelf: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(shelf["sdxl"]), device="cpu", dtype="float32")
    most: list[int] = []
    kind = type(model.autoencoder.module.get_submodule("decoder"))
    decode = kind.forward

    def noted(self: Any, latent: torch.Tensor, *given: Any) -> Any:
        most.append(latent.shape[-1])
        return decode(self, latent, *given)

    monkeypatch.setattr(kind, "forward", noted)
    image = decoded(SlicedBackend(model), model, torch.randn(2, 4, 8, 80))
    assert image.shape == (2, 3, 64, 640)
    assert max(most) == 64  # latent pixels, 512 of the picture
    assert not model.autoencoder.module.use_tiling, "the model's own is left alone"


def test_a_layers_weights_are_on_the_device_while_it_runs() -> None:
    """The "meta" device stands in for a card: what touches a weight that is not there fails."""
    layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2, bias=False))
    home = LayerOffload(layers, torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        layers(torch.empty(3, 4, device="meta"))
    before = list(layers.parameters())
    home.inject()
    for _ in range(2):
        found = layers(torch.empty(3, 4, device="meta"))
        assert (found.device.type, found.shape) == ("meta", (3, 2))
        assert all(a is b and a.device.type == "cpu" for a, b in zip(before, layers.parameters(), strict=True))


def test_a_whole_unet_runs_on_lent_weights(shelf: dict[str, Path]) -> None:
    unet = load_model(str(shelf["sdxl"]), device="cpu", dtype="float32").unet
    LayerOffload(unet, torch.device("meta")).inject()
    unet = sharing_weights(unet)  # a copy lends in the same way, and so does one of several
    card: dict[str, Any] = {"device": "meta"}
    added = {"text_embeds": torch.empty(2, 128, **card), "time_ids": torch.empty(2, 6, **card)}
    rows, tokens = torch.empty(2, 4, 8, 8, **card), torch.empty(2, 77, 192, **card)
    output = unet(rows, torch.zeros(2, dtype=torch.int64, **card), tokens, added_cond_kwargs=added).sample
    assert (output.device.type, output.shape) == ("meta", (2, 4, 8, 8))
    assert {parameter.device.type for parameter in unet.parameters()} == {"cpu"}


def test_a_layer_that_fails_has_its_weights_back() -> None:
    layer = torch.nn.Linear(4, 2)
    home = LayerOffload(layer, torch.device("meta"))
    weight = layer.weight
    home.inject()
    with pytest.raises(RuntimeError):
        layer(torch.empty(3, 5, device="meta"))
    assert layer.weight is weight


def test_a_lora_changes_weights_that_are_in_main_memory(shelf: dict[str, Path], tmp_path: Path) -> None:
    plain, kept = (load_model(str(shelf["sdxl"]), device="cpu", dtype="float32", memory=m) for m in ("full", "offload"))
    assert kept.memory.mode == "offload"
    write_lora(tmp_path / "a.safetensors", plain, "kohya")
    config = replace(BASE, loras=str(tmp_path / "a.safetensors"))
    torch.testing.assert_close(pictures(Stream(kept, config)), pictures(Stream(plain, config)), atol=CLOSE, rtol=0)
    assert not torch.allclose(pictures(Stream(kept, config)), pictures(Stream(plain, BASE)), atol=1e-3)


def test_where_memory_is_saved_nothing_is_kept_for_sparse_inference(shelf: dict[str, Path]) -> None:
    stream = Stream(load_model(str(shelf["tiny"]), device="cpu", dtype="float32"), replace(BASE, sparse=True))
    assert stream.sparse is not None
    stream.save_memory("sliced")
    assert stream.sparse is None
    assert bool(pictures(stream).isfinite().all())
    stream.save_memory("full")
    assert stream.sparse is not None
    assert bool(pictures(stream).isfinite().all())
    stream.close()
