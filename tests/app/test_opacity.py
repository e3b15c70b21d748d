"""What is transparent stays so on its way to whoever carries it, and is green for everyone else."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from app.composer import Composer
from app.frame import Frame
from app.messages import Captured, Styled
from app.opacity import GREEN, multiplied, opaque, parted, with_alpha
from app.reprojection.smooth import SmoothSink
from app.settings import Settings
from app.sinks import CallbackSink, ImageFolderSink, ImageSink, Recorder, VideoSink
from app.snapshot import save_snapshot, settings_of_snapshot
from app.tensors import ToHost

RED = (200, 30, 40)


def see_through(number: int = 0, *, left: int = 16) -> Frame:
    """A frame of 64 x 48, red and opaque from column ``left`` on, and nothing before it."""
    pixels, alpha = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    pixels[:, left:], alpha[:, left:] = RED, 255
    return Frame(number, number / 10, pixels, media_time=number / 10, alpha=alpha)


def whole(number: int = 0) -> Frame:
    return Frame(number, number / 10, np.full((48, 64, 3), RED, np.uint8), media_time=number / 10)


def test_green_shows_through_by_as_much_as_the_picture_is_not_opaque() -> None:
    frame = see_through()
    assert tuple(opaque(frame)[10, 5]) == GREEN
    assert tuple(opaque(frame)[10, 40]) == RED
    half = Frame(0, 0.0, frame.pixels, alpha=np.full((48, 64), 128, np.uint8))
    assert np.abs(opaque(half)[10, 40].astype(int) - [100, 142, 20]).max() <= 1
    assert np.abs(multiplied(half)[10, 40].astype(int) - [100, 15, 20, 128]).max() <= 1


def test_a_whole_picture_is_not_touched() -> None:
    frame = whole()
    assert opaque(frame) is with_alpha(frame) is parted(frame.pixels)[0] is frame.pixels
    assert parted(frame.pixels)[1] is None


def test_colours_and_opacity_come_to_the_host_in_one_copy() -> None:
    images, alphas = torch.rand(2, 3, 8, 12), torch.rand(2, 1, 8, 12)
    found = ToHost()(images, alphas)
    assert found.shape == (2, 8, 12, 4)
    assert np.array_equal(found[..., :3], ToHost()(images))
    assert np.array_equal(found[..., 3], (alphas[:, 0] * 255).round().to(torch.uint8).numpy())


@pytest.mark.parametrize("steadiness", [0.0, 1.0])
@pytest.mark.parametrize("reprojection", ["off", "on"])
def test_opacity_moves_with_its_picture(steadiness: float, reprojection: str) -> None:
    settings = Settings(steadiness=steadiness, reprojection=reprojection)
    scene = cv2.resize(np.random.default_rng(0).random((12, 16)).astype(np.float32), (128, 96))
    composer, shown = Composer(), []
    for number in range(3):
        tensor = torch.from_numpy(np.roll(scene, 2 * number, axis=1)).expand(3, 96, 128).contiguous()
        captured = Frame(number, number / 30, np.zeros((96, 128, 3), np.uint8), tensor)
        composer.seen(Captured(captured, settings, 0, live=True), lambda: False)
        pixels = np.zeros((96, 128, 4), np.uint8)
        pixels[:, 40 + 2 * number :] = (*RED, 255)
        styled = Styled(torch.empty(0), (captured,), number, 0, settings, live=True)
        shown.append(composer.styled(pixels, captured, styled))
    for number, frame in enumerate(shown):
        assert frame is not None
        assert frame.pixels.shape == (96, 128, 3)
        assert frame.alpha is not None
        edge = 40 + 2 * number
        assert frame.alpha[:, : edge - 6].max() < 20
        assert frame.alpha[:, edge + 6 :].min() > 235
        assert np.abs(frame.pixels[:, edge + 8 :].astype(int) - RED).max() <= 20


def test_png_and_webp_carry_it_and_jpeg_is_green_and_says_so(tmp_path: Path) -> None:
    for suffix in (".png", ".webp", ".jpg"):
        sink = ImageSink(tmp_path / f"one{suffix}")
        sink.open()
        sink.write(see_through())
        sink.close()
        found = cv2.imread(str(tmp_path / f"one{suffix}"), cv2.IMREAD_UNCHANGED)
        assert found is not None
        if suffix == ".jpg":
            assert np.abs(found[10, 5].astype(int) - GREEN).max() < 12
            assert sink.lost is not None
            assert "green" in sink.lost
        else:
            assert (found[10, 5, 3], found[10, 40, 3]) == (0, 255)
            assert sink.lost is None
    folder = ImageFolderSink(tmp_path / "many")
    folder.open()
    folder.write(see_through())
    folder.write(whole(1))
    folder.close()
    channels = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "many").iterdir())]
    assert [one.shape[2] for one in channels if one is not None] == [4, 3]


def test_a_snapshot_carries_it_beside_its_settings(tmp_path: Path) -> None:
    path = save_snapshot(with_alpha(see_through()), Settings(), folder=tmp_path)
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert (found[10, 5, 3], found[10, 40, 3]) == (0, 255)
    assert settings_of_snapshot(path)[0] == Settings()


def decoded(path: Path) -> tuple[str, list[np.ndarray]]:
    """The codec, and the frames as (H, W, 4) uint8."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        name = stream.codec_context.name
        if name == "vp9":  # FFmpeg's own decoder of VP9 leaves the opacity out
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            packets = [*container.demux(stream)]
            frames = [frame for packet in packets for frame in decoder.decode(packet)]
        else:
            frames = list(container.decode(stream))
        return name, [frame.to_ndarray(format="rgba") for frame in frames]


@pytest.mark.parametrize(("suffix", "codec"), [(".mov", "prores"), (".webm", "vp9")])
def test_a_recording_that_can_be_transparent_is(suffix: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, nominal_fps=lambda: 10.0)
    sink.open()
    for number in range(4):
        sink.write(see_through(number, left=16 + 4 * number) if number < 3 else whole(number))
    sink.close()
    name, frames = decoded(path)
    assert name == codec
    assert sink.lost is None
    assert len(frames) == 4
    for number, frame in enumerate(frames[:3]):
        assert frame[20, 16 + 4 * number - 8, 3] < 20
        assert frame[20, 16 + 4 * number + 8, 3] > 235
        assert np.abs(frame[20, 50, :3].astype(int) - RED).max() <= 12
    assert frames[3][..., 3].min() > 235


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_recording_that_cannot_be_is_green_and_says_so(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path)
    sink.open()
    for number in range(3):
        sink.write(see_through(number))
    sink.close()
    _, frames = decoded(path)
    assert np.abs(frames[0][20, 5, :3].astype(int) - GREEN).max() <= 12
    assert sink.lost is not None
    assert "green" in sink.lost


def test_a_recording_that_began_whole_stays_so(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mov")
    sink.open()
    sink.write(whole())
    sink.write(see_through(1))
    sink.close()
    name, frames = decoded(tmp_path / "out.mov")
    assert name == "h264"
    assert np.abs(frames[1][20, 5, :3].astype(int) - GREEN).max() <= 12
    assert sink.lost is not None


def test_the_recorder_takes_a_file_that_carries_it(tmp_path: Path) -> None:
    assert Recorder(tmp_path).path.suffix == ".mp4"
    assert Recorder(tmp_path, transparent=True).path.suffix == ".mov"


def test_pictures_between_pictures_have_it_too() -> None:
    found: list[Frame] = []
    sink = SmoothSink(CallbackSink(found.append), 20.0)
    sink.open()
    for number in range(3):
        sink.write(see_through(number))
    sink.close()
    assert len(found) >= 5
    assert all(frame.alpha is not None and frame.pixels.shape == (48, 64, 3) for frame in found)
