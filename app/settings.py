"""Everything that a user can set, as one immutable value, and where it is kept between two runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from app.json_files import DamagedError, few, read_json, write_json
from pipeline.config import ACCELERATIONS, MEMORY_MODES, StreamConfig
from pipeline.setting import Cost, check, described, setting

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
    )
    autoencoder: str = setting(
        "auto",
        "pictures to latents and back: auto takes the tiny one where there is one",
        choices=AUTOENCODERS,
        cost=Cost.MODEL,
    )
    device: str = setting(
        "auto",
        "where the model runs; a number chooses among several, as in cuda:1",
        choices=DEVICES,
        cost=Cost.MODEL,
        numbered=("cuda", "xpu"),
    )
    dtype: str = setting("auto", "the numbers that the model calculates with", choices=DTYPES, cost=Cost.MODEL)
    acceleration: str = setting(
        "auto", "what runs the model: the best there is, or one by name", choices=ACCELERATIONS, cost=Cost.MODEL
    )
    memory: str = setting(
        "full",
        "how little memory the model gets by with: as much as it takes; work in slices, none of it sparse; "
        "or weights in main memory until used",
        choices=MEMORY_MODES,
    )
    width: int = setting(
        0,
        "width of the picture; 0 follows the height, or the model, in the source's shape",
        low=0,
        high=LARGEST_SIDE,
        step=SIZE_STEP,
        unit="pixels",
        cost=Cost.SLOTS,
    )
    height: int = setting(
        0,
        "height of the picture; 0 follows the width, or the model, in the source's shape",
        low=0,
        high=LARGEST_SIDE,
        step=SIZE_STEP,
        unit="pixels",
        cost=Cost.SLOTS,
    )
    fit: str = setting("crop", "how a source of another shape is fitted", choices=FITS)
    mirror: bool = setting(False, "swap left and right, as a mirror does")
    frame_buffer: int = setting(
        1, "frames that go through the model together", low=1, high=16, step=1, unit="frames", cost=Cost.SLOTS
    )

    reprojection: str = setting(
        "auto",
        "carry the last picture along the motion for camera frames that have none yet; auto: if the model is slower",
        choices=REPROJECTIONS,
    )
    steadiness: float = setting(
        0.0, "how much of the picture before stays where the input does not change", low=0, high=1, step=0.05
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("width", "height"):
            side = getattr(self, name)
            if side and (side < SMALLEST_SIDE or side % SIZE_STEP):
                raise ValueError(
                    f"{name} is {side}; it must be a multiple of {SIZE_STEP} and at least {SMALLEST_SIDE} pixels"
                )


def multiple_of_step(side: float) -> int:
    """The allowed side (in pixels) that is nearest to ``side``."""
    return min(LARGEST_SIDE, max(SMALLEST_SIDE, round(side / SIZE_STEP) * SIZE_STEP))


def picture_size(settings: Settings, source_width: int, source_height: int, default: int) -> tuple[int, int]:
    """The (width, height) in pixels at which the engine sees a source of the given size.

    A side that the settings leave open (0) keeps the source's shape as far as no side is above ``LARGEST_SIDE``; with
    both open, ``default`` is the shorter one, or less where the longer one would be too long.
    """
    width, height = settings.width, settings.height
    shape = source_width / source_height
    if width and height:
        return width, height
    if width:
        return width, multiple_of_step(width / shape)
    if height:
        return multiple_of_step(height * shape), height
    short, long = sorted((source_width, source_height))
    scale = min(default / short, LARGEST_SIDE / long)
    return multiple_of_step(source_width * scale), multiple_of_step(source_height * scale)


def default_path() -> Path:
    """Where the settings are kept: the user's own configuration folder."""
    return Path(platformdirs.user_config_dir("vitrail", appauthor=False)) / "settings.json"


def save(settings: Settings, path: Path) -> None:
    """Write ``settings`` as JSON, whole or not at all: a crash midway leaves the old file. Raises ``OSError``."""
    write_json(path, dataclasses.asdict(settings))


def load(path: Path) -> tuple[Settings, list[str]]:
    """Read settings back; what cannot be used is left at its default and named in the notes.

    Returns:
        The settings, and one sentence for people on each thing that was not taken as it stood. A missing file gives
        the defaults and no note. A file that is no settings file is set aside (``.bad``), so that nothing is lost.
    """
    try:
        found = read_json(path)
    except FileNotFoundError:
        return Settings(), []
    except OSError as error:
        return Settings(), [f"The settings in {path} cannot be read ({error.strerror}); the defaults are used."]
    except DamagedError:
        return Settings(), [_set_aside(path)]
    if not isinstance(found, dict):
        return Settings(), [_set_aside(path)]
    settings, notes = from_dict(found)
    return settings, few(notes)


def from_dict(found: dict[str, Any]) -> tuple[Settings, list[str]]:
    """Settings from the JSON form, with notes on what was not taken (see ``load``)."""
    notes: list[str] = []
    inner = found.get("stream", {})
    if not isinstance(inner, dict):
        notes.append("The setting 'stream' is not a group of settings; the defaults are used.")
        inner = {}
    stream = StreamConfig(**_usable(StreamConfig, inner, notes))
    outer = {name: value for name, value in found.items() if name != "stream"}
    taken = _usable(Settings, outer, notes)
    try:
        return Settings(stream=stream, **taken), notes
    except ValueError as error:  # what no single range can say: sides that are no multiple of 8
        notes.append(f"The {error}; the default size is used.")
        return Settings(stream=stream, **{k: v for k, v in taken.items() if k not in ("width", "height")}), notes


def _usable(kind: type, values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    known = {name: (type_, known) for name, type_, known in described(kind)}
    taken = {}
    for name, value in values.items():
        if name not in known:
            notes.append(f"The setting {name!r} is not known to this version; it is ignored.")
            continue
        type_, one = known[name]
        problem = one.problem(name, value, type_)
        if problem:
            notes.append(f"The {problem}; the default is used.")
        else:
            taken[name] = float(value) if type_ is float else value
    return taken


def _set_aside(path: Path) -> str:
    bad = path.with_name(path.name + ".bad")
    try:
        path.replace(bad)
    except OSError as error:
        return f"The settings in {path} are damaged and cannot be moved ({error.strerror}); the defaults are used."
    return f"The settings in {path} were damaged; they are kept as {bad.name}, and the defaults are used."
