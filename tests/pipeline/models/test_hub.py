"""Models from a hub: fetched, resumed, taken from the cache, and one sentence for all that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline import ModelError, Stream, StreamConfig, load_model
from pipeline.models.families import Family
from pipeline.models.hub import download
from pipeline.models.tiny_autoencoder import choose_autoencoder
from tests.hub_server import HubServer
from tests.tiny_model import write_tiny_model

NAME = "someone/tiny-turbo"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("hub") / "tiny")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02 a pickle, never to be fetched")
    (folder / "run_me.py").write_text("raise SystemExit('code from a checkpoint')")
    return folder


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub on loopback, an empty cache, and no connection to any other."""
    with HubServer({NAME: folder}) as server:
        constants = "huggingface_hub.constants."
        monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants + "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub answers; unlike in offline mode, the client finds out by trying."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def test_a_model_is_fetched_once_and_streams_without_a_connection(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    model = load_model(NAME, device="cpu", progress=lambda done, total: seen.append((done, total)))
    assert model.name == NAME
    assert model.few_step  # by its name
    assert seen[-1][0] == seen[-1][1] > 900_000
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    fetched = hub.files_asked_for()
    assert WEIGHTS in fetched
    assert not [path for path in fetched if path.endswith((".bin", ".py"))]
    asked = len(hub.requests)
    go_offline(monkeypatch)
    again = load_model(NAME, device="cpu")
    assert len(hub.requests) == asked
    assert Stream(again, StreamConfig())(torch.rand(3, 32, 32)).image.shape == (1, 3, 32, 32)


@pytest.mark.usefixtures("hub")
def test_a_revision_is_fetched_by_its_name() -> None:
    assert download(f"{NAME}@v1").is_dir()
    with pytest.raises(ModelError, match="has no revision 'v9' on the hub"):
        download(f"{NAME}@v9")


def test_a_broken_download_is_resumed(hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks again and again; what has arrived is not fetched twice."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("time.sleep", lambda _: None)  # its pauses between tries
    hub.cut_after = 300_000
    path = download(NAME)
    ranges = [ask for method, file, ask in hub.requests if method == "GET" and file.endswith(WEIGHTS)]
    assert any(ask is not None and not ask.startswith("bytes=0-") for ask in ranges), ranges
    assert (path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("hub")
def test_a_download_is_cancelled_by_whoever_watches_it() -> None:
    class Cancelled(Exception):
        pass

    def cancel(done: int, _: int) -> None:
        if done > 1000:
            raise Cancelled

    with pytest.raises(Cancelled):
        download(NAME, cancel)
    assert download(NAME).is_dir()  # and done another time


def test_a_tiny_autoencoder_is_fetched_under_the_same_eyes(hub: HubServer, folder: Path) -> None:
    hub.repositories["someone/tae"] = folder / "vae"
    family = Family("for the test", 64, tiny_autoencoder="someone/tae")
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int) -> None:
        seen.append((done, total))

    found = choose_autoencoder("tiny", family, None, torch.float32, [], watch)
    assert type(found).__name__ == "AutoencoderTiny"
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_file_that_is_not_what_the_hub_names_is_thrown_away(hub: HubServer, folder: Path) -> None:
    hub.spoil = lambda _, content: content[:5000] + b"oops" + content[5004:]
    with pytest.raises(ModelError, match=r"was damaged on its way: .*safetensors is not what the hub names"):
        download(NAME)
    hub.spoil = lambda _, content: content
    assert (download(NAME) / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


REFUSALS = {
    "gated": ((403, "GatedRepo"), "is gated: accept its licence on its hub page, then log in with `hf auth login`"),
    "private or missing": ((401, "RepoNotFound"), "the hub has no public model .*; check the name, or log in"),
    "missing": ((404, "RepoNotFound"), "the hub has no public model"),
    "out of order": ((500, "Oops"), "the hub refused"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_sentence(case: str, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.fail[NAME], words = REFUSALS[case]
    with pytest.raises(ModelError, match=words) as caught:
        load_model(NAME, device="cpu")
    assert "\n" not in str(caught.value)


def test_no_connection_and_nothing_in_the_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.url
    go_offline(monkeypatch)
    with pytest.raises(ModelError, match=r"hub cannot be reached; connect once .*, or use --model embedded"):
        load_model(NAME, device="cpu")


def test_a_full_disk_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.url

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ModelError, match=r"the disk is full: .* does not fit; make room, or point HF_HOME"):
        download(NAME)


def test_half_precision_is_fetched_where_there_are_both(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    import shutil

    both = shutil.copytree(folder, tmp_path / "both")
    shutil.copy(both / WEIGHTS, both / WEIGHTS.replace(".safetensors", ".fp16.safetensors"))
    hub.repositories["someone/both"] = both
    download("someone/both")
    assert WEIGHTS not in hub.files_asked_for()
    assert WEIGHTS.replace(".safetensors", ".fp16.safetensors") in hub.files_asked_for()
    assert load_model("someone/both", device="cpu").unet is not None


def test_a_repository_without_a_model_says_so(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    hub.repositories["someone/other"] = tmp_path / "other"
    with pytest.raises(
        ModelError, match=r"is on the hub, but not in the diffusers layout .model_index.json is missing"
    ):
        load_model("someone/other", device="cpu")
