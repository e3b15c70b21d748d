"""The corpus: settings, presets and prompts, with every kind of text and damage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from app.json_files import LARGEST_FILE
from tests.corpus_case import Case, Right, Says, Values

DAMAGED = Values(notes=("are damaged; they are kept as settings.json.bad",))
NEWER = Values(notes=("are of a newer version of Vitrail; they are kept as settings.json.bad",))
HEAD = "vitrail-preset = 1\n"


def written(name: str, content: str | bytes, folder: Path) -> Path:
    """A file of this content."""
    path = folder / name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)
    return path


def _settings() -> Iterator[Case]:
    def of(**values: object) -> str:
        return json.dumps({"version": 2, "chosen": values})

    cases: dict[str, tuple[str | bytes, Values]] = {
        "nothing in it": ("{}", Values()),
        "no choices": (of(), Values()),
        "of the first edition": (
            '{"stream":{"prompt":"ink"},"mirror":true}',
            Values({"stream.prompt": "ink", "mirror": True}),
        ),
        "of tomorrow": ('{"version":3,"chosen":{}}', NEWER),
        "choices that are none": ('{"version":2,"chosen":[1]}', DAMAGED),
        "a prompt": (of(stream={"prompt": "ink"}), Values({"stream.prompt": "ink"})),
        "half a character": (
            '{"version":2,"chosen":{"prompt":"ink \\ud83c"}}',
            Values({"stream.prompt": "ink \ud83c"}),
        ),
        "right to left": (of(stream={"prompt": "שלום"}), Values({"stream.prompt": "שלום"})),
        "a long prompt": (of(stream={"prompt": "x" * 100_000}), Values({"stream.prompt": "x" * 100_000})),
        "out of range": (of(stream={"strength": 7, "steps": 3}), Values({"stream.steps": 3}, ("strength is 7; it",))),
        "a number as text": (of(stream={"steps": "3"}), Values(notes=("steps is '3'; it must be a whole number",))),
        "a text as number": (of(stream={"prompt": 3}), Values(notes=("prompt is 3; it must be a text",))),
        "yes as number": (of(mirror=1), Values(notes=("mirror is 1; it must be a yes or no",))),
        "no number": ('{"version":2,"chosen":{"strength":NaN}}', Values(notes=("strength is nan",))),
        "endless": ('{"version":2,"chosen":{"strength":Infinity}}', Values(notes=("strength is inf",))),
        "400 digits": ('{"version":2,"chosen":{"seed":1' + "0" * 400 + "}}", Values(notes=("seed is 1000",))),
        "5,000 digits": ('{"version":2,"chosen":{"seed":1' + "0" * 5000 + "}}", DAMAGED),
        "a list": (of(stream={"prompt": ["ink"]}), Values(notes=("prompt is .* it must be a text",))),
        "nothing": (of(stream={"prompt": None}), Values(notes=("prompt is None; it must be a text",))),
        "a group that is none": (of(stream=3, mirror=True), Values({"mirror": True}, ("is not a group of settings",))),
        "unknown": (of(sparkle=1, mirror=True), Values({"mirror": True}, ("'sparkle' is not known",))),
        "an unknown choice": (of(fit="squeeze"), Values(notes=("fit is 'squeeze'; it must be one of",))),
        "a device of another number": (of(device="cuda:1"), Values({"device": "cuda:1"})),
        "a processor of a number": (of(device="cpu:7"), Values(notes=("device is 'cpu:7'; it must be one of",))),
        "a size that cannot be": (of(width=100, mirror=True), Values({"mirror": True}, ("width is 100; it must be",))),
        "a LoRA too strong": (of(stream={"loras": "a:99"}), Values(notes=("strength of a is 99",))),
        "many unknown": (json.dumps({f"x{n}": n for n in range(5000)}), Values(notes=("x",) * 7 + ("4993 more",))),
        "an unknown of a megabyte": (of(**{"x" * 10**6: 1}), Values(notes=("is not known|…",))),
        "empty": ("", DAMAGED),
        "broken off": ('{"version":2,"chosen":{"prompt":"in', DAMAGED),
        "no object": ("[1]", DAMAGED),
        "null": ("null", DAMAGED),
        "zeros": (bytes(4000), DAMAGED),
        "Latin-1": ('{"version":2,"chosen":{"prompt":"café"}}'.encode("latin-1"), DAMAGED),
        "UTF-16": ('{"mirror":true}'.encode("utf-16"), DAMAGED),
        "nested objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, DAMAGED),
        "nested lists": ("[" * 200_000 + "]" * 200_000, DAMAGED),
        "too large": ('{"model":"' + "x" * LARGEST_FILE + '"}', DAMAGED),
    }
    for name, (content, right) in cases.items():
        yield Case("settings", name, partial(written, "settings.json", content), right)
    yield Case("settings", "missing", lambda folder: folder / "settings.json", Values())
    folder_there = Values(notes=("cannot be read",))
    yield Case("settings", "a folder", lambda folder: _made(folder / "settings.json"), folder_there)
    if hasattr(os, "mkfifo"):
        yield Case("settings", "a pipe", _pipe("settings.json"), Values(notes=("it is no ordinary file",)))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(name: str):
    def make(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return make


def _presets() -> Iterator[Case]:
    cases: dict[str, tuple[str | bytes, Right]] = {
        "nothing but its head": (HEAD, Values()),
        "a look": (f'{HEAD}[stream]\nprompt = "ink"\nsteps = 3\n', Values({"stream.prompt": "ink", "stream.steps": 3})),
        "a size": (f"{HEAD}[picture]\nwidth = 128\n", Values({"width": 128})),
        "by a Windows editor": (f"\ufeff{HEAD}".replace("\n", "\r\n"), Values()),
        "emoji": (f'{HEAD}name = "🎨"\n[stream]\nprompt = "🎨 שלום"\n', Values({"stream.prompt": "🎨 שלום"})),
        "out of range": (f"{HEAD}[stream]\nstrength = 7.5\n", Values(notes=("strength is 7.5",))),
        "a date": (f"{HEAD}[stream]\nsolver = 2026-01-01\n", Values(notes=("solver is",))),
        "endless": (f"{HEAD}[stream]\nstrength = inf\n", Values(notes=("strength is inf",))),
        "unknown": (f"{HEAD}sparkle = 3\n", Values(notes=("'sparkle' does not belong into a preset",))),
        "what belongs to a machine": (f'{HEAD}device = "cpu"\n', Values(notes=("'device' does not belong",))),
        "groups that are none": (f"{HEAD}stream = 3\npicture = 4\n", Values(notes=("picture", "stream"))),
        "many unknown": (HEAD + "".join(f"x{n} = 1\n" for n in range(500)), Values(notes=("x",) * 7 + ("493 more",))),
        "no head": ('name = "x"\n', Says("is not a Vitrail preset")),
        "of tomorrow": ("vitrail-preset = 2\n", Says("is of version 2; this Vitrail knows up to 1")),
        "no TOML": ("hello", Says("look.toml: The preset cannot be understood")),
        "empty": ("", Says("is not a Vitrail preset")),
        "half a character": (f'{HEAD}[stream]\nprompt = "\\ud83c"\n', Says("cannot be understood")),
        "nested": (f"{HEAD}a = {'[' * 50_000}{']' * 50_000}", Says("cannot be understood")),
        "5,000 digits": (f"{HEAD}[stream]\nseed = {'1' * 5000}\n", Says("cannot be understood")),
        "no text": (b"\xff\xfe\x00\x01", Says("is not a text file")),
        "zeros": (bytes(500), Says("cannot be understood")),
        "too large": ("#" * 300_000, Says("is too large for a preset")),
    }
    for name, (content, right) in cases.items():
        yield Case("preset", name, partial(written, "look.toml", content), right)
    yield Case("preset", "missing", lambda folder: folder / "look.toml", Says("No such file"))
    yield Case("preset", "a folder", lambda folder: _made(folder / "look.toml"), Says("cannot be read"))
    if hasattr(os, "mkfifo"):
        yield Case("preset", "a pipe", _pipe("look.toml"), Says("it is no ordinary file"))


def _prompts() -> Iterator[Case]:
    """Each comes back as it is from settings and history, and as text that has UTF-8 from presets and snapshots."""
    texts = {
        "plain": "a watercolour",
        "accents": "café, naïve, Ångström",
        "of the east": "水墨画",
        "right to left": "\u202eשלום עולם\u202c",
        "emoji of several": "🏳️‍🌈" * 300,
        "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028",
        "zero": "a\0b",
        "half a character": "ink \ud83c",
        "bytes of Latin-1": "caf\udce9",
        "half of one, then the other": "\udcff\ud800",
        "100,000 letters": "x " * 50_000,
        "one long word": "x" * 2000,
        "quotes and backslashes": "\"'\\\\n\\u0041 '''\"\"\"",
        "brackets": "((((((a:1.5):9e9)::",
        "endless emphasis": "(a:1e400)",
        "emphasis that is no number": "(a:nan)",
        "emphasis of nothing": "(:0)",
        "weights that cancel": "a::-1 b::-1",
        "weight of nothing": "a::0",
        "a thousand brackets": "(" * 1000 + "ink" + ")" * 1000,
        "a LoRA's tag": "ink <lora:wash:0.8>",
        "markup": "[red]ink[/red] {name} %s %d",
        "nothing": "",
        "spaces": "   ",
    }
    for name, text in texts.items():
        yield Case("text", name, lambda _, text=text: text, text)


CASES: tuple[Case, ...] = (*_settings(), *_presets(), *_prompts())
