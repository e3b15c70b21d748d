"""IP-Adapters, their image encoders and pictures as files: found where they lie, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pipeline import ModelError, Stream, StreamConfig
from pipeline.models.families import SD1
from pipeline.models.image_encoder import ImageEncoder, prepared
from pipeline.models.ip_adapter import IpAdapterFacts
from pipeline.models.ip_adapter_files import find_encoder, find_ip_adapter
from pipeline.models.looks import Looks
from pipeline.picture_file import PictureError, picture_tensor
from tests.hub_server import HubServer
from tests.ip_adapters import ENCODERS, FILES, SIDE, adapter_state, write_encoder, write_picture, write_repository
from tests.tiny_model import tiny_model

USUAL = SD1.ip_adapter
NAME = "h94/IP-Adapter"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """h94's, with adapters for the tiny model in both of its folders."""
    root = tmp_path_factory.mktemp("hub") / "h94"
    write_repository(root, {"sd15": tiny_model().unet, "sdxl": tiny_model().unet})
    write_picture(root / "face.png", 1)
    return root


@pytest.fixture
def copied(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "h94"))


def looking(root: Path, look_model: str = "", picture: str = "face.png") -> StreamConfig:
    model = str(root / (look_model or "models/ip-adapter_sd15.safetensors"))
    return StreamConfig(look_like=str(root / picture), look_model=model, steps=1)


def refused(config: StreamConfig) -> str:
    """What a stream says that cannot follow ``config``; it goes on as before."""
    stream = Stream(tiny_model(), StreamConfig())
    frame = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = stream(frame).image
    with pytest.raises(ModelError) as caught:
        stream.configure(config)
    assert "\n" not in str(caught.value)
    assert torch.equal(stream(frame).image, before)
    return str(caught.value)


def fits(_: object) -> None:
    return None


# -- where they lie ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for files in FILES.values() for name in files.values()])
def test_each_adapter_finds_the_encoder_that_it_reads(name: str, repository: Path) -> None:
    shared = "sdxl_models" if name.endswith("_sdxl.safetensors") else "models"
    assert find_encoder(repository / name) == repository / shared / "image_encoder"


@pytest.mark.parametrize("folder", ["", "models"])
def test_of_a_folder_the_usual_one_is_taken(folder: str, repository: Path) -> None:
    found = find_ip_adapter(str(repository / folder), USUAL, fits)
    assert found == repository / "models" / "ip-adapter_sd15.safetensors"


def test_of_a_folder_the_only_one_that_fits_is_taken(repository: Path) -> None:
    def fit(facts: IpAdapterFacts) -> str | None:
        return None if facts.pooled and facts.encoded == ENCODERS["sdxl_models"][1] else "is another"

    assert find_ip_adapter(str(repository), USUAL, fit).name == "ip-adapter_sdxl.safetensors"
    with pytest.raises(ModelError, match=r"holds 3 IP-Adapters for this model \(ip-adapter-plus_sdxl_vit.*by its path"):
        find_ip_adapter(str(repository / "sdxl_models"), USUAL, fits)
    with pytest.raises(ModelError, match=r"holds no IP-Adapter: no \.safetensors file is in it"):
        find_ip_adapter(str(repository.parent), USUAL, fits)


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on loopback that holds h94's repository, and an empty cache."""
    with HubServer({NAME: repository}) as server:
        constants = "huggingface_hub.constants."
        monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants + "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


@pytest.mark.parametrize("spec", ["", NAME, f"{NAME}/sdxl_models/ip-adapter_sdxl_vit-h.safetensors"])
def test_of_a_hub_one_adapter_and_its_encoder_are_fetched_once(
    spec: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = find_ip_adapter(spec, USUAL, fits)
    assert find_encoder(path).parts[-2:] == ("models", "image_encoder")
    weights = sorted(name for name in hub.files_asked_for() if name.endswith(".safetensors"))
    own = spec.removeprefix(NAME + "/") if spec.count("/") > 1 else "models/ip-adapter_sd15.safetensors"
    assert set(weights) == {own, "models/image_encoder/model.safetensors"}
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert find_ip_adapter(spec, USUAL, fits) == path


@pytest.mark.usefixtures("hub")
def test_what_a_hub_does_not_have_is_one_sentence() -> None:
    with pytest.raises(ModelError, match="the hub has no public IP-Adapter some/one"):
        find_ip_adapter("some/one", USUAL, fits)
    with pytest.raises(ModelError, match=r"h94/IP-Adapter on the hub has no a/b\.safetensors; give the IP-Adapter as"):
        find_ip_adapter(f"{NAME}/a/b.safetensors", USUAL, fits)
    with pytest.raises(ModelError, match=r"which IP-Adapter of h94/IP-Adapter is meant is not known; give it as owner"):
        find_ip_adapter(NAME, "", fits)


# -- what is wrong with them ------------------------------------------------------------------------------------------


def test_an_adapter_without_its_encoder_says_where_it_was_looked_for(copied: Path) -> None:
    shutil.rmtree(copied / "models" / "image_encoder")
    said = refused(looking(copied))
    assert "the image encoder of the IP-Adapter ip-adapter_sd15.safetensors is missing" in said
    assert f"{copied / 'models' / 'image_encoder'}, {copied / 'image_encoder'}" in said
    assert f"what is in {copied / 'sdxl_models' / 'image_encoder'} is another one" in said


def test_an_encoder_without_weights_or_with_others_is_refused(copied: Path) -> None:
    folder = copied / "models" / "image_encoder"
    weights = folder / "model.safetensors"
    state = load_file(weights)
    del state["vision_model.post_layernorm.bias"]
    save_file(state, weights)
    assert "is incomplete: 1 of its" in refused(looking(copied))
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4")
    assert "holds its weights as pickle" in refused(looking(copied))
    (folder / "config.json").write_text("{}")
    assert "holds no image encoder of CLIP" in refused(looking(copied))


def test_an_adapter_of_another_family_is_called_so(copied: Path) -> None:
    path = copied / "models" / "ip-adapter_sd15.safetensors"
    state = load_file(path)
    wide = {name: one.repeat(1, 48) if "_ip." in name else one for name, one in state.items()}
    wide |= {"image_proj.proj.weight": torch.zeros(4 * 768, 48), "image_proj.norm.weight": torch.ones(768)}
    save_file(wide, path)
    assert refused(looking(copied)) == (
        "the IP-Adapter ip-adapter_sd15.safetensors was made for Stable Diffusion 1: its tokens are 768 wide, and this "
        "model takes 16; take one for this model"
    )
    fewer = {name: one for name, one in state.items() if "ip_adapter.1." not in name}
    save_file(fewer, path)
    assert "was made for another model: for 3 cross-attentions, and this one has 4" in refused(looking(copied))
    narrow = {name: one[:8] if "ip_adapter.1." in name else one for name, one in state.items()}
    save_file(narrow, path)
    assert "the widths of its cross-attentions are others" in refused(looking(copied))


def test_an_adapter_for_faces_names_what_it_needs(copied: Path) -> None:
    path = copied / "models" / "ip-adapter_sd15.safetensors"
    state = load_file(path)
    layers = {name: one for name, one in state.items() if name.startswith("ip_adapter")}
    for projection in (("proj.0.weight", "proj.2.weight", "norm.weight"), ("perceiver_resampler.proj_in.weight",)):
        save_file({**layers, **{f"image_proj.{name}": torch.zeros(2, 2) for name in projection}}, path)
        assert "is an IP-Adapter FaceID, which needs a network that recognises faces" in refused(looking(copied))
    save_file({**state, "ip_adapter.0.to_q_lora.down.weight": torch.zeros(2, 2)}, path)
    assert "is an IP-Adapter FaceID" in refused(looking(copied))


def test_what_is_no_adapter_or_damaged_is_one_sentence(copied: Path) -> None:
    path = copied / "models" / "ip-adapter_sd15.safetensors"
    state = load_file(path)
    save_file({"lora.down.weight": torch.zeros(2, 2)}, path)
    assert "is no IP-Adapter: it has no tensors image_proj.* and" in refused(looking(copied))
    spoilt = {**state, "image_proj.proj.bias": torch.full((64,), float("nan"))}
    save_file(spoilt, path)
    assert "numbers that are not finite in image_proj.proj.bias" in refused(looking(copied))
    save_file({name: one for name, one in state.items() if name != "ip_adapter.3.to_v_ip.weight"}, path)
    assert "is damaged: its tensors are not those of an IP-Adapter" in refused(looking(copied))
    save_file({name: one for name, one in state.items() if name != "image_proj.norm.bias"}, path)
    assert "is incomplete: 1 of its 4 tensors are missing, such as norm.bias" in refused(looking(copied))
    path.write_bytes(path.read_bytes()[:-8])
    assert "is cut off" in refused(looking(copied))
    path.unlink()
    assert "there is no IP-Adapter" in refused(looking(copied))
    (copied / "models" / "adapter.bin").write_bytes(b"PK\3\4")
    assert "holds its weights as pickle" in refused(looking(copied, "models/adapter.bin"))
    plus = adapter_state(tiny_model().unet, "plus", ENCODERS["models"])
    heads = {"to_q": 100, "to_kv": 200}
    for name in [name for name in plus if name.endswith((".to_q.weight", ".to_kv.weight"))]:
        plus[name] = plus[name][: heads[name.split(".")[-2]]].clone()
    save_file(plus, path)
    assert "is damaged: its tensors do not fit each other" in refused(looking(copied))


def test_a_picture_that_is_none_is_one_sentence(copied: Path) -> None:
    (copied / "text.png").write_text("no picture")
    (copied / "empty.png").write_bytes(b"")
    (copied / "cut.png").write_bytes((copied / "face.png").read_bytes()[:200])
    for name, why in (
        ("text.png", "is not a picture that can be read"),
        ("cut.png", "is not a picture that can be read"),
        ("empty.png", "is empty (0 bytes)"),
        ("none.png", "cannot be read: No such file or directory"),
        ("models", "cannot be read: "),
    ):
        said = refused(looking(copied, picture=name))
        assert why in said
        assert said.endswith("; give a picture file, as in face.png")
    config = replace(looking(copied), look_like=f"{copied / 'face.png'}; {copied / 'none.png'}")
    assert "none.png cannot be read" in refused(config)


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight of face.png is -1; it must be between 0 and 10"):
        StreamConfig(look_like="face.png:-1")


# -- what is read of them ---------------------------------------------------------------------------------------------


def test_a_picture_stands_upright_on_white(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = (picture_tensor(tmp_path / "turned.png") * 255).round().to(torch.uint8)
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.rot90(pixels, -1))
    clear = np.dstack([pixels, np.full((6, 4), 51, np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255 * 0.2 + 0.8
    torch.testing.assert_close(picture_tensor(tmp_path / "clear.png"), expected, atol=1 / 255, rtol=0)
    grey = np.linspace(0, 65535, 24, dtype=np.uint16).reshape(6, 4)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    expected = torch.from_numpy(grey.astype(np.float32) / 65535).expand(3, -1, -1)
    torch.testing.assert_close(picture_tensor(tmp_path / "deep.png"), expected, atol=1 / 255, rtol=0)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(tmp_path / "large.png", 0, (20, 30))
    monkeypatch.setattr("pipeline.picture_file.MOST_PIXELS", 599)
    with pytest.raises(PictureError, match="is 30x20 pixels large; pictures of up to 0 million can be read"):
        picture_tensor(path)


# The largest step between two whole numbers of a pixel, once prepared.
_ONE_OF_255 = 1 / 255 / 0.26


@pytest.mark.parametrize("size", [(SIDE, SIDE), (100, 61), (61, 240), (29, 31)])
def test_pictures_are_prepared_as_clip_does(size: tuple[int, int], tmp_path: Path) -> None:
    path = write_picture(tmp_path / "any.png", 0, size)
    theirs = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE)
    with Image.open(path) as picture:
        expected = theirs(picture, return_tensors="pt").pixel_values[0]
    ours = prepared(picture_tensor(path), SIDE)
    assert ours.shape == (3, SIDE, SIDE)
    torch.testing.assert_close(ours, expected, atol=0 if size == (SIDE, SIDE) else 1.01 * _ONE_OF_255, rtol=1e-5)
    assert float((ours - expected).abs().mean()) < 0.2 * _ONE_OF_255


def test_a_strip_is_not_made_a_wall() -> None:
    """A picture one pixel high is 28 high once prepared; as many times wider it would fill the memory."""
    assert prepared(torch.rand(3, 1, 500_000), SIDE).shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@torch.inference_mode()
def test_the_encoder_calculates_in_float32_whatever_it_is_stored_in(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "image_encoder", *ENCODERS["models"], dtype)
    picture = torch.rand(3, SIDE, SIDE)
    theirs = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
    output = theirs(prepared(picture, SIDE)[None], output_hidden_states=True)
    encoder = ImageEncoder(folder)
    torch.testing.assert_close(encoder(picture, pooled=True), output.image_embeds)
    torch.testing.assert_close(encoder(picture, pooled=False), output.hidden_states[-2])
    nothing = theirs(torch.zeros(1, 3, SIDE, SIDE), output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(encoder(None, pooled=False), nothing)


def test_an_encoder_of_a_whole_clip_is_read(copied: Path) -> None:
    """Repositories of CLIP hold its text half in the same file."""
    weights = copied / "models" / "image_encoder" / "model.safetensors"
    save_file({**load_file(weights), "text_model.final_layer_norm.bias": torch.zeros(2)}, weights)
    config = json.loads((weights.parent / "config.json").read_text())
    assert config["hidden_size"] == ENCODERS["models"][0]
    looks = Looks(lambda: tiny_model().unet, 16, SD1)
    assert len(looks.of(torch.rand(2, 3, 8, 8), None, str(copied)).pictures) == 2
