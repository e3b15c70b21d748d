"""T2I-Adapters and ControlNets: every layout gives the same network, and bad files are one sentence each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.adapter import T2IAdapter
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors.torch import load_file, save_file

from pipeline import Model, ModelError, load_model
from pipeline.models.control_files import Control, read_control
from pipeline.models.control_layouts import ControlKind
from pipeline.models.families import OTHER, SD1, SD2, SDXL, VITRAIL
from tests.adapters import write_lora
from tests.checkpoints import shelved
from tests.controls import (
    WEIGHTS,
    as_original_adapter,
    as_original_controlnet,
    as_single_file,
    new_adapter,
    new_controlnet,
    write_control,
)
from tests.tiny_model import tiny_model, unet_of, write_tiny_model


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("controls")


_MODELS: dict[str, Model] = {}


def model_of(kind: str, shelf: Path) -> Model:
    if kind not in _MODELS:
        _MODELS[kind] = load_model(str(shelved(kind, shelf)), device="cpu", dtype="float32")
    return _MODELS[kind]


def read(path: Path, model: Model) -> Control:
    return read_control(str(path), model.family, model.unet_config, torch.float32)


def same(control: Control, expected: torch.nn.Module) -> None:
    weights = expected.state_dict()
    assert control.module.state_dict().keys() == weights.keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in control.module.state_dict().items())
    written, found = config_of(expected), config_of(control.module)
    same_in = ["down_block_types", "mid_block_type", "use_linear_projection", "adapter_type", "downscale_factor"]
    for name in (*same_in, "num_attention_heads"):
        assert tuple_of(found.get(name)) == tuple_of(written.get(name)), name
    if "attention_head_dim" in written:
        levels = len(written["block_out_channels"])
        assert each(found["attention_head_dim"], levels) == each(written["attention_head_dim"], levels)


def config_of(module: torch.nn.Module) -> dict[str, Any]:
    assert isinstance(module, ConfigMixin)
    return {str(name): value for name, value in dict(module.config).items()}


def tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def each(value: object, levels: int) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * levels


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl", "ssd", "pix2pix"])
def test_every_layout_of_a_controlnet_is_the_same_network(kind: str, shelf: Path) -> None:
    model = model_of(kind, shelf)
    # The hint's embedding has its six layers in the true layouts, at any width.
    channels = {"in_channels": 4} if kind == "pix2pix" else {}
    unet = unet_of(model)
    written = new_controlnet(unet) if not channels else new_controlnet(unet_of(model_of("sd15", shelf)))
    folder = write_control(shelf / f"{kind}-controlnet", written)
    single = as_single_file(folder, shelf / f"{kind}-single.safetensors")
    authors = as_original_controlnet(folder, shelf / f"{kind}-authors.safetensors", 2)
    bare = as_original_controlnet(folder, shelf / f"{kind}-bare.safetensors", 2, prefix="")
    with_model = {**load_file(authors), "model.diffusion_model.out.2.bias": torch.zeros(4)}
    save_file(with_model, shelf / f"{kind}-with-model.safetensors")
    for path in (folder, single, authors, bare, shelf / f"{kind}-with-model.safetensors"):
        control = read(path, model)
        assert control.kind is ControlKind.CONTROLNET
        assert control.notes == ()
        same(control, written)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "adapter"), [("sd15", "full"), ("sd15", "light"), ("sd21", "full"), ("sdxl", "full")])
def test_every_layout_of_an_adapter_is_the_same_network(kind: str, adapter: str, channels: int, shelf: Path) -> None:
    model = model_of(kind, shelf)
    name = "light_adapter" if adapter == "light" else "full_adapter_xl" if kind == "sdxl" else "full_adapter"
    written = new_adapter(unet_of(model), name, channels=channels)
    stem = f"{kind}-{name}-{channels}"
    folder = write_control(shelf / stem, written)
    single = as_single_file(folder, shelf / f"{stem}-single.safetensors")
    authors = as_original_adapter(folder, shelf / f"{stem}-authors.safetensors", light=adapter == "light")
    for path in (folder, single, authors):
        control = read(path, model)
        assert control.kind is ControlKind.ADAPTER
        assert control.grey == (channels == 1)
        assert control.fold == (16 if kind == "sdxl" else 8)
        same(control, written)


def test_a_controlnet_without_attentions_is_told_by_the_rest(shelf: Path) -> None:
    """As the small ones for SDXL."""
    model = model_of("sdxl", shelf)
    torch.manual_seed(0)
    config = dict(unet_of(model).config)
    written = ControlNetModel(
        block_out_channels=config["block_out_channels"],
        down_block_types=("DownBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        mid_block_type="UNetMidBlock2D",
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=config["projection_class_embeddings_input_dim"],
        conditioning_embedding_out_channels=(8, 8, 16, 16),  # pyright: ignore[reportArgumentType]
    )
    written.register_to_config(cross_attention_dim=config["cross_attention_dim"])
    folder = write_control(shelf / "small-controlnet", written)
    for path in (folder, as_single_file(folder, shelf / "small.safetensors")):
        control = read(path, model)
        assert set(control.module.state_dict()) == set(written.state_dict())


def test_hints_in_another_order_of_colours_are_shown_as_they_should_be(shelf: Path) -> None:
    model = tiny_model()
    written = new_controlnet(unet_of(model), controlnet_conditioning_channel_order="bgr")
    hint = torch.rand(1, 3, 64, 64)
    control = read(write_control(shelf / "bgr", written), model)
    ours = control.module.get_submodule("controlnet_cond_embedding")(hint)
    torch.testing.assert_close(ours, written.controlnet_cond_embedding(hint.flip(1)))
    assert config_of(control.module)["controlnet_conditioning_channel_order"] == "rgb"


def written(shelf: Path, name: str, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, shelf / f"{name}.safetensors")
    return shelf / f"{name}.safetensors"


def controlnet(shelf: Path) -> Path:
    folder = shelf / "for-bad"
    return folder if folder.exists() else write_control(folder, new_controlnet(unet_of(tiny_model())))


def edited(shelf: Path, name: str, **entries: object) -> Path:
    folder = write_control(shelf / name, new_controlnet(unet_of(tiny_model())))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **entries}), encoding="utf-8")
    return folder


def truncated(shelf: Path) -> Path:
    path = shelf / "truncated.safetensors"
    path.write_bytes((controlnet(shelf) / WEIGHTS).read_bytes()[:-100])
    return path


def pickled(shelf: Path) -> Path:
    torch.save(load_file(controlnet(shelf) / WEIGHTS), shelf / "pickled.pth")
    return shelf / "pickled.pth"


def pickled_folder(shelf: Path) -> Path:
    (shelf / "pickled").mkdir(exist_ok=True)
    torch.save({}, shelf / "pickled" / "diffusion_pytorch_model.bin")
    return shelf / "pickled"


def not_finite(shelf: Path) -> Path:
    state = load_file(controlnet(shelf) / WEIGHTS)
    state["conv_in.bias"][0] = float("nan")
    return written(shelf, "nan", state)


def without_a_tensor(shelf: Path) -> Path:
    folder = edited(shelf, "incomplete")
    state = load_file(folder / WEIGHTS)
    del state["controlnet_mid_block.bias"]
    save_file(state, folder / WEIGHTS)
    return folder


def lora(shelf: Path) -> Path:
    write_lora(shelf / "lora.safetensors", tiny_model(), "peft")
    return shelf / "lora.safetensors"


BAD: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "missing": (lambda shelf: shelf / "nowhere.safetensors", "there is no T2I-Adapter or ControlNet"),
    "truncated": (truncated, "is cut off"),
    "pickle": (pickled, "holds its weights as pickle"),
    "pickle in a folder": (pickled_folder, "holds its weights as pickle"),
    "not finite": (not_finite, "has numbers that are not finite in conv_in.bias"),
    "incomplete": (without_a_tensor, "is incomplete: 1 of its .* tensors are missing, such as controlnet_mid_block"),
    "a LoRA": (lora, "is a LoRA: give this file as --lora"),
    "a model": (lambda shelf: write_tiny_model(shelf / "model") / "unet", "is a model, and not a control of one"),
    "a picture": (lambda shelf: written(shelf, "other", {"x": torch.zeros(1)}), "is neither a T2I-Adapter nor"),
    "LLLite": (lambda s: written(s, "lllite", {"lllite_unet_x.down.0.weight": torch.zeros(1)}), "is a ControlNet-LLL"),
    "Control-LoRA": (lambda s: written(s, "cl", {"lora_controlnet": torch.zeros(1)}), "is a Control-LoRA"),
    "union": (lambda s: written(s, "union", {"task_embedding": torch.zeros(1)}), r"many kinds of hints \(Union\)"),
    "Flux": (lambda s: written(s, "flux", {"controlnet_x_embedder.weight": torch.zeros(1)}), "is made for Flux"),
    "shuffle": (lambda s: edited(s, "shuffle", global_pool_conditions=True), "keeps no shape"),
    "another class": (lambda s: edited(s, "class", _class_name="ControlNetXSAdapter"), "holds a ControlNetXSAdapter"),
    "damaged configuration": (lambda s: edited(s, "damaged", layers_per_block=10**9), "layers a level are 1000000000"),
    "hints of five channels": (lambda s: edited(s, "five", conditioning_channels=5), "does not fit its configuration"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_sentence(case: str, shelf: Path) -> None:
    make, words = BAD[case]
    with pytest.raises(ModelError, match=words) as raised:
        read_control(str(make(shelf)), SD1, tiny_model().unet_config, torch.float32)
    assert "\n" not in str(raised.value)


def test_a_control_for_another_family_is_refused(shelf: Path) -> None:
    models = {family: model_of(kind, shelf) for kind, family in (("sd15", SD1), ("sd21", SD2), ("sdxl", SDXL))}
    folders = {
        made: write_control(shelf / f"of-{made.title}", new_controlnet(unet_of(model)))
        for made, model in models.items()
    }
    for made, folder in folders.items():
        for family, model in models.items():
            if family is made:
                continue
            words = f"is a ControlNet for {made.title}, and the model is one of {family.title}; take one"
            with pytest.raises(ModelError, match=words):
                read_control(str(folder), family, model.unet_config, torch.float32)
    large = write_control(shelf / "xl-adapter", new_adapter(unet_of(models[SDXL]), "full_adapter_xl"))
    with pytest.raises(ModelError, match="is a T2I-Adapter for Stable Diffusion XL, and the model is one of Stable"):
        read_control(str(large), SD1, models[SD1].unet_config, torch.float32)
    with pytest.raises(ModelError, match="its level widths are"):
        read_control(str(large), OTHER, models[SD1].unet_config, torch.float32)
    with pytest.raises(ModelError, match="its level widths are"):
        read_control(str(folders[SD1]), SD1, tiny_model().unet_config, torch.float32)
    small = write_control(shelf / "small-adapter", new_adapter(unet_of(models[SD1])))
    assert isinstance(read_control(str(small), SD2, models[SD2].unet_config, torch.float32).module, T2IAdapter)
    assert VITRAIL.adapters == {}
