"""Someone who does what they please with the window, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from app.catalogue import Entry
from app.drawing import Brush
from assets.sample import clip_path
from pipeline.setting import Cost, Value
from tests.ui.real import CARD, Opened
from ui.canvas import COLOURS
from ui.choice import Choice
from ui.dialogs import canvas_choice
from ui.layout import Mode

_WORDS = ("a photo", "van gogh", "neon lights", "something that it never saw", "", "ü ☂ 你好", "a mosaic, sepia")


class RandomUser:
    """Does one thing after the other.

    Args:
        opened: the window.
        choose: where the chance comes from.
        folder: for what is recorded.
        most: largest values of settings that would only take time.
    """

    def __init__(self, opened: Opened, choose: random.Random, folder: Path, most: Mapping[str, int]) -> None:
        self._window = opened.window
        self._choose = choose
        self._folder = folder
        self._most = most
        picture = folder / "picture.png"
        cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
        self._sources = (CARD, Choice(str(clip_path()), "Clip"), Choice(str(picture), "Picture"), canvas_choice())
        self._acts = {
            "setting": (self._change_setting, 10),
            "prompt": (self._write, 4),
            "style": (self._pick_style, 3),
            "undo": (self._window.commands["undo"].trigger, 3),
            "redo": (self._window.commands["redo"].trigger, 2),
            "source": (self._change_source, 2),
            "paint": (self._paint, 3),
            "wind": (self._wind, 1),
            "mode": (lambda: self._window.show_mode(choose.choice(list(Mode))), 2),
            "record": (self._record, 1),
            "snapshot": (lambda: self._window.sinks.snapshot(folder), 1),
            "preset": (self._preset, 1),
            "page": (lambda: self._window.side.show_page(choose.randrange(2)), 1),
            "resize": (lambda: self._window.resize(choose.randrange(900, 1300), choose.randrange(600, 900)), 1),
        }
        for name in ("pause", "theme", "panel", "zoom", "clean_feed", "full_screen", "shuffle"):
            self._acts[name] = (self._window.commands[name].trigger, 1)

    def act(self) -> str:
        """Do one thing; its name."""
        names = list(self._acts)
        (name,) = self._choose.choices(names, [self._acts[one][1] for one in names])
        self._acts[name][0]()
        return name

    def _change_setting(self) -> None:
        names = [one for one in self._window.panel.controls if self._entry(one).setting.cost is not Cost.MODEL]
        name = self._choose.choice(names)
        entry = self._entry(name)
        if entry.kind is str and entry.setting.choices is None:
            return
        self._window.editor.change(**{name: self._value(entry)})

    def _entry(self, name: str) -> Entry:
        return self._window.editor.entries[name]

    def _value(self, entry: Entry) -> Value:
        known = entry.setting
        if known.choices is not None:
            return self._choose.choice(known.choices)
        if entry.kind is bool:
            return self._choose.random() < 0.5
        low, high = known.low or 0, min(known.high or 100, self._most.get(entry.name, known.high or 100))
        if entry.kind is float:
            return round(self._choose.uniform(low, high), 3)
        step = int(known.step or 1)
        return int(low) + step * self._choose.randrange(int((high - low) // step) + 1)

    def _write(self) -> None:
        self._window.prompt_bar.prompt.setText(self._choose.choice(_WORDS))
        self._window.prompt_bar.prompt.settle()

    def _pick_style(self) -> None:
        buttons = self._window.prompt_bar.chips.buttons
        if buttons:
            self._choose.choice(buttons).click()

    def _change_source(self) -> None:
        if self._window.commands["pause"].isChecked():
            self._window.commands["pause"].trigger()
        self._window.switch.choose(self._choose.choice(self._sources))

    def _paint(self) -> None:
        brush = Brush(self._choose.choice(COLOURS), self._choose.uniform(2, 60), eraser=self._choose.random() < 0.2)
        points = [(self._choose.uniform(-50, 562), self._choose.uniform(-50, 562)) for _ in range(4)]
        self._window.switch.drawing.stroke(points, brush)
        if self._choose.random() < 0.3:
            self._window.canvas.undo.click()

    def _wind(self) -> None:
        self._window.seek_bar.slider.setValue(self._choose.randrange(1000))

    def _record(self) -> None:
        self._window.sinks.record(self._window.sinks.recorder is None, self._folder)

    def _preset(self) -> None:
        presets = self._window.presets
        if self._choose.random() < 0.5:
            presets.save(f"Look {self._choose.randrange(3)}")
        elif found := sorted(presets.folder.glob("*.toml")):
            presets.apply(self._choose.choice(found))
