"""Settings that cannot be run as they are: what is run instead, and what of it needs saying."""

from __future__ import annotations

import re
from dataclasses import replace

from app.settings import Settings
from pipeline.config import StreamConfig
from pipeline.setting import described

# Pictures that a text source gives where nothing says how many, and it is not to go on without end.
TEXT_FRAMES = 120

_COLOURS = (
    "This model paints over a picture and cannot do without one, so it is given drifting patches of colour; "
    "for pictures of words alone take another, such as stabilityai/sd-turbo."
)

_SEEN_THROUGH = (
    "Nothing is behind the person now: PNG and WebP pictures, recordings as .mov or .webm and clean feed windows "
    "opened from now on are transparent there; everything else is green."
)

# Settings that name files. The solver does so too, in its way, but may be any without them.
FILE_SETTINGS = tuple(name for name, _, known in described(StreamConfig) if known.reads_files and not known.choices)

# As other programs have it: <lora:name:0.8>, with lyco and hypernet for other kinds.
_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>", re.IGNORECASE)


def of_words(settings: Settings) -> Settings:
    """``settings`` for frames without a picture: text to image, whatever they say."""
    if settings.stream.text_to_image:
        return settings
    return replace(settings, stream=replace(settings.stream, text_to_image=True))


def runnable(stream: StreamConfig, timesteps: range) -> StreamConfig:
    """``stream``, without guidance where its kind cannot be had, and without timesteps that are none of the model's.

    Args:
        timesteps: those that the model knows.
    """
    if stream.conflict:
        stream = replace(stream, guidance="none")
    return replace(stream, timesteps="") if stream.unknown_timesteps(timesteps) else stream


def without_files(stream: StreamConfig) -> StreamConfig:
    """``stream``, with nothing in it that names a file: no LoRA, no picture to look like."""
    plain = {name: StreamConfig.__dataclass_fields__[name].default for name in FILE_SETTINGS}
    return replace(stream, **plain)


def remarks(before: StreamConfig | None, stream: StreamConfig, sees_input: bool, timesteps: range) -> list[str]:
    """What to tell the user as ``stream`` comes into force after ``before`` (None at the start).

    Args:
        sees_input: whether the model's UNet takes an input picture.
        timesteps: those that the model knows.
    """
    news = []
    tags = _tags(stream)
    if tags and tags != (_tags(before) if before is not None else []):
        news.append(
            f"{tags[0]} in a prompt is read as words. A LoRA is added by dropping its file on the window, or with "
            "--lora FILE:STRENGTH."
        )
    unknown = stream.unknown_timesteps(timesteps)
    if unknown and (before is None or before.timesteps != stream.timesteps):
        news.append(f"{unknown[:1].upper()}{unknown[1:]}. Until then steps, strength and spacing decide.")
    if stream.conflict and (before is None or not before.conflict):
        news.append(f"{stream.conflict[:1].upper()}{stream.conflict[1:]}. Until then there is no guidance.")
    without = stream.text_to_image and _person(stream) != ("everything", "")
    if without and (before is None or not (before.text_to_image and _person(before) == _person(stream))):
        news.append("A picture of words alone has no input to find a person in: style only and background do nothing.")
    elif not without and stream.background == "none" and (before is None or before.background != "none"):
        news.append(_SEEN_THROUGH)
    if sees_input and stream.text_to_image and (before is None or not before.text_to_image):
        news.append(_COLOURS)
    return news


def _person(stream: StreamConfig) -> tuple[str, str]:
    return stream.only, stream.background


def _tags(stream: StreamConfig) -> list[str]:
    return _TAG.findall(" ".join((stream.prompt, stream.negative_prompt, stream.prompt_b)))
