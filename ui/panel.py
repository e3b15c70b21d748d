"""The controls beside the picture, section by section, and a line that explains the one in hand."""

from __future__ import annotations

import random
from collections.abc import Mapping

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QFrame, QLabel, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from app.catalogue import matters, sections
from app.engine import ModelFacts
from app.metrics import Snapshot
from pipeline.setting import Section
from ui.controls import Control, control_for
from ui.editor import Editor
from ui.icons import icon
from ui.inputs import small_button
from ui.numbers import SimilarityMeter

WIDTH = 332
_LARGEST_SEED = 2**31 - 1
_OPEN = (Section.LOOK, Section.SIMILAR)  # sections that are unfolded at first


class Foldable(QWidget):
    """A heading that folds and unfolds what is under it.

    Signals:
        folded: whether it is open, after a click.
    """

    folded = Signal(bool)

    def __init__(self, title: str, *, is_open: bool) -> None:
        super().__init__()
        self.head = QPushButton(title)
        self.head.setProperty("role", "section")
        self.head.setCheckable(True)
        self.head.setChecked(is_open)
        self.head.setIconSize(QSize(14, 14))
        self.body = QWidget()
        self.body.setVisible(is_open)
        self.rows = QVBoxLayout(self.body)
        self.rows.setContentsMargins(4, 4, 0, 12)
        self.rows.setSpacing(12)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.head)
        column.addWidget(self.body)
        self.head.toggled.connect(self._fold)
        self.dress()

    def dress(self) -> None:
        """Draw the arrow in the theme's colour."""
        self.head.setIcon(icon("chevron-down" if self.head.isChecked() else "chevron-right", size=14))

    def _fold(self, is_open: bool) -> None:
        self.body.setVisible(is_open)
        self.dress()
        self.folded.emit(is_open)


class Panel(QWidget):
    """All generated controls.

    Args:
        editor: whose settings.
    """

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self._editor = editor
        self.controls: dict[str, Control] = {}
        self.sections: dict[str, Foldable] = {}
        self._page = QWidget()
        self._column = QVBoxLayout(self._page)
        self._column.setContentsMargins(16, 8, 14, 16)
        self._column.setSpacing(6)
        for section, mine in sections(editor.entries):
            self._add_section(section, [control_for(entry) for entry in mine])
        self._column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setWidget(self._page)
        self.help = QLabel()
        self.help.setProperty("role", "faint")
        self.help.setWordWrap(True)
        self.help.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.help.setContentsMargins(20, 10, 20, 10)
        self.help.setFixedHeight(92)
        self.help.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        line = QFrame()
        line.setProperty("role", "line")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(scroll, 1)
        column.addWidget(line)
        column.addWidget(self.help)
        self._add_seed_buttons()
        self._unsupported: Mapping[str, str] = {}
        self.similarity = SimilarityMeter()
        self.sections[Section.SIMILAR.value].rows.addWidget(self.similarity)
        self._explain("")
        editor.changed.connect(self.follow)
        editor.refused.connect(self._refused)
        self.follow()

    def follow(self) -> None:
        """Show the settings as they stand now."""
        settings, standing = self._editor.settings, self._editor.standing
        notes, limited = standing.notes(), standing.limited
        for name, control in self.controls.items():
            self._show(control)
            reason = self._unsupported.get(name, "")
            control.show_note(notes.get(name, reason), can_lift=name in limited)
            control.setEnabled(not reason and matters(name, settings, self._editor.entries))

    def show_model(self, facts: ModelFacts | None) -> None:
        """Say which controls have no effect on the model that serves, and why."""
        unsupported = {} if facts is None else facts.unsupported
        if unsupported != self._unsupported:
            self._unsupported = unsupported
            self.follow()

    def _show(self, control: Control) -> None:
        name = control.entry.name
        reset = f"Back to {self._editor.unchosen(name)}" if self._editor.is_chosen(name) else ""
        control.show_value(self._editor.value(name), reset)

    def shuffle_seed(self) -> None:
        """Other noise."""
        self._editor.change(seed=random.SystemRandom().randint(0, _LARGEST_SEED))

    def beside_prompt(self) -> dict[str, int]:
        """What else changes with a new prompt: the seed, unless it is held."""
        return {} if self.hold.isChecked() else {"seed": random.SystemRandom().randint(0, _LARGEST_SEED)}

    def show_counts(self, counts: Snapshot) -> None:
        """Follow the counters."""
        on = bool(self._editor.value("similarity_filter"))
        self.similarity.show_counts(counts, float(self._editor.value("similarity_threshold")), on=on)

    def folds(self) -> dict[str, bool]:
        """Which sections are open, by title."""
        return {title: section.head.isChecked() for title, section in self.sections.items()}

    def fold(self, title: str, is_open: bool) -> None:
        """Open or close a section; nothing where there is none of that title."""
        if title in self.sections:
            self.sections[title].head.setChecked(is_open)

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        for control in self.controls.values():
            control.dress()
        for section in self.sections.values():
            section.dress()
        self.follow()
        self.shuffle.setIcon(icon("shuffle", size=16))
        self.hold.setIcon(icon("lock", size=16))

    def _add_section(self, one: Section, controls: list[Control]) -> None:
        section = Foldable(one.value, is_open=one in _OPEN)
        for control in controls:
            self.controls[control.entry.name] = control
            section.rows.addWidget(control)
            control.edited.connect(lambda name, value: self._editor.change(**{name: value}))
            control.reset_asked.connect(self._editor.reset)
            control.lift_asked.connect(self._editor.lift_limits)
            control.explained.connect(self._explain)
        self.sections[one.value] = section
        self._column.addWidget(section)

    def _add_seed_buttons(self) -> None:
        self.shuffle = small_button("shuffle", "Shuffle the seed", "Other noise, now")
        self.hold = small_button("lock", "Hold the seed", "Hold: off, and every new prompt gets new noise")
        self.hold.setCheckable(True)
        self.hold.setChecked(True)
        self.shuffle.clicked.connect(self.shuffle_seed)
        seed = self.controls.get("seed")
        if seed is not None:
            at = seed.head.count() - 1  # before the button back to the default
            seed.head.insertWidget(at, self.shuffle)
            seed.head.insertWidget(at + 1, self.hold)

    def _explain(self, text: str) -> None:
        self.help.setText(text or "Point at a control, or move to it with Tab, to read what it does.")

    def _refused(self, name: str, reason: str) -> None:
        if name in self.controls:
            self._show(self.controls[name])
            self.controls[name].show_problem(reason)
