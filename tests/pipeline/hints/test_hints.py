"""Hints as a stream asks for them: by name, of models that are read beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import ModelError, StreamConfig
from pipeline.backends.eager import EagerBackend
from pipeline.backends.openvino.backend import OpenVinoBackend
from pipeline.hints.hints import Hints
from pipeline.masking.person import PersonFinder
from pipeline.shape_list import HINTS
from tests.tiny_model import tiny_model, write_json
from tests.vision_models import write_depth_model, write_pose_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``depth``, ``other`` (another of depth) and ``pose``."""
    folder = tmp_path_factory.mktemp("vision")
    write_depth_model(folder / "depth")
    write_depth_model(folder / "other", seed=1)
    write_pose_model(folder / "pose")
    return folder


def config_with(folder: Path, hints: str, depth: str = "depth") -> StreamConfig:
    return StreamConfig(keep_shape=hints, depth_model=str(folder / depth), pose_model=str(folder / "pose"))


def eager_hints() -> Hints:
    model = tiny_model()
    return Hints(model, EagerBackend(model))


def test_every_hint_is_a_picture_of_its_frame_and_is_made_when_it_is_asked_for(folder: Path) -> None:
    hints, config = eager_hints(), config_with(folder, "; ".join(HINTS))
    assert not hints.is_ready(config)
    hints.read(config)
    assert hints.is_ready(config)
    hints.follow(config)
    frames = torch.rand(2, 3, 64, 96)
    found = hints(HINTS, frames, person=lambda: torch.ones(2, 1, 16, 16))
    assert tuple(found) == HINTS
    for hint in found.values():
        assert hint.shape == frames.shape
        assert hint.dtype == torch.float32
        assert 0 <= float(hint.amin()) <= float(hint.amax()) <= 1
    assert float(found["mask"].amin()) == 1
    asked: list[str] = []
    hints(["canny"], frames, person=lambda: asked.append("mask") or torch.ones(2, 1, 16, 16))
    assert not asked


def test_the_mask_is_the_persons_and_is_steady_over_successive_frames() -> None:
    """One by one and two by two the same, and that of the finder itself."""
    config = StreamConfig(keep_shape="mask:0.7")
    frames = torch.rand(4, 3, 64, 96)
    found = []
    for size in (1, 2):
        hints = eager_hints()
        assert not hints.is_ready(config)
        hints.read(config)
        hints.follow(config)
        assert hints.is_ready(config)
        found.append(torch.cat([hints(["mask"], part)["mask"] for part in frames.split(size)]))
    torch.testing.assert_close(found[0], found[1])
    finder, model = PersonFinder(torch.device("cpu")), tiny_model()
    expected = finder(frames, EagerBackend(model), config)
    torch.testing.assert_close(found[0], expected.expand(-1, 3, -1, -1))
    assert found[0].std() > 0


def test_only_models_that_are_asked_for_are_read(folder: Path) -> None:
    hints = eager_hints()
    config = StreamConfig(keep_shape="canny", depth_model=str(folder / "nothing"))
    assert hints.is_ready(config)
    hints.read(config)
    hints.follow(config)
    with pytest.raises(ValueError, match="nothing that makes the hint 'depth'"):
        hints(["depth"], torch.rand(1, 3, 64, 64))


def test_another_model_takes_the_place_of_the_one_before(folder: Path) -> None:
    hints, frames = eager_hints(), torch.rand(1, 3, 84, 84)
    first, second = config_with(folder, "depth"), config_with(folder, "depth", "other")
    hints.read(first)
    hints.follow(first)
    before = hints(["depth"], frames)["depth"]
    hints.read(second)  # beside the stream: nothing is another yet
    assert torch.equal(hints(["depth"], frames)["depth"], before)
    hints.follow(second)
    after = hints(["depth"], frames)["depth"]
    assert (after - before).abs().mean() > 0.05
    assert hints.is_ready(second)
    assert not hints.is_ready(first)  # given up
    hints.read(first)
    hints.follow(first)
    assert torch.equal(hints(["depth"], frames)["depth"], before)


def test_a_compiled_model_makes_the_same_hints(folder: Path) -> None:
    model, frames = tiny_model(), torch.rand(2, 3, 84, 112)
    config = config_with(folder, "depth; pose")
    plain, backend = eager_hints(), OpenVinoBackend(model)
    compiled = Hints(model, backend)
    backend.patient = True
    for hints in (plain, compiled):
        hints.read(config)
        hints.follow(config)
    ours, theirs = (hints(["depth", "pose"], frames) for hints in (plain, compiled))
    built = {spec.network.partition("/")[0] for builder in backend._builders() for spec in builder.ready()}
    backend.close()
    assert built == {"depth", "pose", "person"}  # who stands where the pose is looked for
    assert (ours["depth"] - theirs["depth"]).abs().mean() < 0.02  # bfloat16, where the processor has it
    assert backend.news() == []


def test_what_is_no_such_model_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "depth.safetensors"
    file.write_bytes(b"")
    cases = {
        "": "depth in keep shape needs a depth model: name a folder or a hub name as depth model",
        str(tmp_path): f"{tmp_path} is no depth model: it has no config.json",
        str(file): f"{file} is no depth model: that is a folder",
        str(folder / "pose"): "is of kind vitpose, which sees no depth; known are",
        "nowhere at all": "there is no depth model 'nowhere at all': give a folder",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError) as error:
            eager_hints().read(StreamConfig(keep_shape="depth:0.5", depth_model=name))
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_a_damaged_model_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    def damaged(name: str) -> Path:
        return Path(shutil.copytree(folder / "depth", tmp_path / name))

    state = load_file(folder / "depth" / "model.safetensors")
    missing = damaged("missing")
    save_file({name: one for name, one in state.items() if "head.conv3" not in name}, missing / "model.safetensors")
    infinite = damaged("infinite")
    save_file({**state, "head.conv1.bias": torch.full((4,), float("inf"))}, infinite / "model.safetensors")
    pickled = damaged("pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    unknown = damaged("unknown")
    write_json(unknown / "config.json", {"model_type": "brand_new", "auto_map": {"AutoConfig": "code.Config"}})
    torn = damaged("torn")
    write_json(torn / "config.json", {"model_type": "depth_anything", "neck_hidden_sizes": "none"})
    for path, words in {
        missing: "is incomplete: 2 tensors are missing, such as head.conv3.bias; get it again",
        infinite: "has numbers that are not finite in head.conv1.bias",
        pickled: "holds its weights as pickle",
        unknown: "is of kind brand_new, which sees no depth",
        torn: "cannot be loaded",
    }.items():
        with pytest.raises(ModelError, match=words) as error:
            eager_hints().read(StreamConfig(keep_shape="depth", depth_model=str(path)))
        assert "\n" not in str(error.value)
