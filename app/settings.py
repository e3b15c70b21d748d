"""Everything that a user can set, as one immutable value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from pipeline.config import ACCELERATIONS, MEMORY_MODES, StreamConfig
from pipeline.setting import Cost, Section, check, setting
from pipeline.user_path import is_blank

FITS = ("crop", "pad", "stretch")
DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
REPROJECTIONS = ("off", "auto", "on")
AUTOENCODERS = ("auto", "tiny", "full")
DTYPES = ("auto", "float32", "float16", "bfloat16")

# Every autoencoder that streams here halves a picture three times, so a side is a multiple of 8.
SIZE_STEP = 8
SMALLEST_SIDE = 64
# Of any side, whoever asks for it: the user, or the shape of a source that is very long and thin.
LARGEST_SIDE = 8192


def _named(model: str) -> None:
    """Raise ``ValueError`` where this is no name at all."""
    if is_blank(model):
        raise ValueError(
            f"model is {model!r}; it must be 'embedded', a folder, a .safetensors file, or a Hugging Face name"
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What the session does with the frames. A change makes a new value (``dataclasses.replace``).

    Attributes:
        stream: the engine's own settings.

    Raises:
        ValueError: a value is outside its range; the message names the setting, the value and the range.
    """

    stream: StreamConfig = field(default_factory=StreamConfig)
    model: str = setting(
        "embedded",
        "the diffusion model: 'embedded', a folder, a .safetensors file, or a Hugging Face name",
        cost=Cost.MODEL,
        section=Section.ELSEWHERE,
        portable=False,
        parse=_named,
    )
    autoencoder: str = setting(
        "auto",
        "pictures to latents and back: auto takes the tiny one where there is one",
        choices=AUTOENCODERS,
        cost=Cost.MODEL,
        section=Section.ENGINE,
        portable=False,
    )
    device: str = setting(
        "auto",
        "where the model runs; a number chooses among several, as in cuda:1",
        choices=DEVICES,
        cost=Cost.MODEL,
        numbered=("cuda", "xpu"),
        section=Section.ENGINE,
        portable=False,
    )
    dtype: str = setting(
        "auto",
        "the numbers that the model calculates with",
        choices=DTYPES,
        cost=Cost.MODEL,
        label="Precision",
        section=Section.ENGINE,
        portable=False,
    )
    acceleration: str = setting(
        "auto",
        "what runs the model: the best there is, or one by name",
        choices=ACCELERATIONS,
        cost=Cost.MODEL,
        section=Section.ENGINE,
        look=False,
        portable=False,
    )
    memory: str = setting(
        "full",
        "how little memory the model gets by with: as much as it takes; work in slices, none of it sparse; "
        "or weights in main memory until used",
        choices=MEMORY_MODES,
        section=Section.ENGINE,
        look=False,
        portable=False,
    )
    width: int = setting(
        0,
        "width of the picture; 0 follows the height, or the model, in the source's shape",
        low=0,
        high=LARGEST_SIDE,
        step=SIZE_STEP,
        unit="pixels",
        cost=Cost.SLOTS,
        section=Section.PICTURE,
        look=False,  # a picture of another size is never taken for the same one
        open_value="as the model",
        least=SMALLEST_SIDE,
    )
    height: int = setting(
        0,
        "height of the picture; 0 follows the width, or the model, in the source's shape",
        low=0,
        high=LARGEST_SIDE,
        step=SIZE_STEP,
        unit="pixels",
        cost=Cost.SLOTS,
        section=Section.PICTURE,
        look=False,
        open_value="as the model",
        least=SMALLEST_SIDE,
    )
    fit: str = setting(
        "crop",
        "how a source of another shape is fitted",
        choices=FITS,
        label="Aspect ratio",
        section=Section.PICTURE,
    )
    mirror: bool = setting(False, "swap left and right, as a mirror does", section=Section.PICTURE, portable=False)
    frame_buffer: int = setting(
        1,
        "frames that go through the model together",
        low=1,
        high=16,
        step=1,
        unit="frames",
        cost=Cost.SLOTS,
        label="Frames together",
        section=Section.ENGINE,
        look=False,
        portable=False,
    )
    reprojection: str = setting(
        "auto",
        "carry the last picture along the motion for camera frames that have none yet; auto: if the model is slower",
        choices=REPROJECTIONS,
        section=Section.MOTION,
        look=False,
        portable=False,
    )
    steadiness: float = setting(
        0.0,
        "how much of the picture before stays where the input does not change",
        low=0,
        high=1,
        step=0.05,
        section=Section.MOTION,
        look=False,
    )

    def __post_init__(self) -> None:
        check(self)


def multiple_of_step(side: float) -> int:
    """The allowed side (in pixels) that is nearest to ``side``."""
    return min(LARGEST_SIDE, max(SMALLEST_SIDE, round(side / SIZE_STEP) * SIZE_STEP))


def picture_size(
    settings: Settings, source_width: int, source_height: int, default: int, most_pixels: int | None = None
) -> tuple[int, int]:
    """The (width, height) in pixels at which the engine sees a source of the given size.

    A side that the settings leave open (0) keeps the source's shape as far as no side is above ``LARGEST_SIDE``; with
    both open, ``default`` is the shorter one, or less where the longer one would be too long. Where that makes more
    than ``most_pixels``, both sides are made smaller.
    """
    width, height = settings.width, settings.height
    shape = source_width / source_height
    if width and not height:
        height = multiple_of_step(width / shape)
    elif height and not width:
        width = multiple_of_step(height * shape)
    elif not width:
        short, long = sorted((source_width, source_height))
        scale = min(default / short, LARGEST_SIDE / long)
        width, height = multiple_of_step(source_width * scale), multiple_of_step(source_height * scale)
    return within_pixels(width, height, most_pixels)


def within_pixels(width: int, height: int, most_pixels: int | None) -> tuple[int, int]:
    """The (width, height) of at most ``most_pixels`` (None: any number) in the shape of the given one."""
    if most_pixels is None or width * height <= most_pixels:
        return width, height
    scale = math.sqrt(most_pixels / (width * height))
    # A little more, so that a side which is a multiple of the step is not lost to rounding.
    smaller = (int(side * scale + 1e-6) // SIZE_STEP * SIZE_STEP for side in (width, height))
    first, second = (max(SMALLEST_SIDE, side) for side in smaller)
    return first, second


def default_path() -> Path:
    """Where the settings are kept: the user's own configuration folder."""
    return Path(platformdirs.user_config_dir("vitrail", appauthor=False)) / "settings.json"
