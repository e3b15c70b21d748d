"""The words under the picture: the prompt, what to keep away from, and the styles that the model knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QMenu, QToolButton, QVBoxLayout, QWidget

from app.styles import Style
from ui import theme
from ui.chips import Chips
from ui.editor import Editor
from ui.icons import icon
from ui.inputs import Slider, number_box, quietly
from ui.words import unknown, with_style

TYPING_PAUSE_MS = 250
MOST_LISTED = 20
MOST_NAMED = 3


class Words(QLineEdit):
    """A line of text that counts once the typing pauses, or at once on Enter.

    Signals:
        settled: the text, when it counts.
    """

    settled = Signal(str)

    def __init__(self, name: str, hint: str, role: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setPlaceholderText(hint)
        self.setProperty("role", role)
        self.setClearButtonEnabled(True)
        self.typing = QTimer(self)
        self.typing.setSingleShot(True)
        self.typing.setInterval(TYPING_PAUSE_MS)
        self.typing.timeout.connect(self.settle)
        self.textEdited.connect(self._start)
        self.returnPressed.connect(self.settle)
        self._settled = ""

    def _start(self) -> None:
        self.typing.start()

    def settle(self) -> None:
        """What is typed counts now."""
        self.typing.stop()
        if self.text() != self._settled:
            self._settled = self.text()
            self.settled.emit(self._settled)

    def follow(self, text: str) -> None:
        """Show the text of the settings, unless the user is in the midst of typing another."""
        if self.typing.isActive():
            return
        self._settled = text
        if self.text() != text:
            self.setText(text)


class BlendRow(QWidget):
    """A second prompt, how much of it, and how long a change takes."""

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self._editor = editor
        self.words = Words("Second prompt", "Blend with a second prompt", "second")
        self.slider = Slider()
        self.slider.setRange(0, 100)
        self.slider.setFixedWidth(150)
        self.slider.setAccessibleName("How much of the second prompt")
        self.percent = QLabel()
        self.percent.setMinimumWidth(40)
        self.seconds = number_box()
        self.seconds.setRange(0, editor.entries["transition"].setting.high or 0)
        self.seconds.setSingleStep(editor.entries["transition"].setting.step or 1)
        self.seconds.setDecimals(1)
        self.seconds.setPrefix("over ")
        self.seconds.setSuffix(" s")
        self.seconds.setFixedWidth(104)
        self.seconds.setAccessibleName("How long a change of the prompts takes")
        self.seconds.setToolTip("How long a change of the prompts, or of the blend, takes")
        row = named_row("Blend with", self.words)
        for part in (self.slider, self.percent, self.seconds):
            row.addWidget(part)
        self.setLayout(row)
        self.words.settled.connect(lambda text: editor.change(prompt_b=text))
        self.slider.valueChanged.connect(lambda value: editor.change(blend=value / 100))
        self.seconds.valueChanged.connect(lambda value: editor.change(transition=value))

    def follow(self) -> None:
        """Show what the settings say."""
        self.words.follow(self._editor.text("prompt_b"))
        blend, seconds = float(self._editor.value("blend")), float(self._editor.value("transition"))
        quietly(self.slider, lambda: self.slider.setValue(round(100 * blend)))
        quietly(self.seconds, lambda: self.seconds.setValue(seconds))
        self.percent.setText(f"{self.slider.value()} %")
        self.slider.setEnabled(bool(self._editor.value("prompt_b")))


class PromptBar(QWidget):
    """Edits the prompts.

    Args:
        editor: whose settings.
        beside: what else changes with every new prompt, in the same step.

    Signals:
        model_asked: another model is to be chosen, one that takes any words.
    """

    model_asked = Signal()

    def __init__(self, editor: Editor, beside: Callable[[], dict[str, Any]] = dict) -> None:
        super().__init__()
        self.setObjectName("foot")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._editor = editor
        self._beside = beside
        self._styles: tuple[Style, ...] = ()
        self.prompt = Words("Prompt", "What should the picture become?", "prompt")
        self.negative = Words("Negative prompt", "What should it keep away from?", "second")
        self.blend = BlendRow(editor) if editor.has("prompt_b") else None
        self.recent = QToolButton()
        self.recent.setProperty("role", "ghost")
        self.recent.setIconSize(QSize(20, 20))
        self.recent.setAccessibleName("Earlier prompts")
        self.recent.setToolTip("Earlier prompts")
        self.recent.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.recent_menu = QMenu(self)
        self.recent.setMenu(self.recent_menu)
        self.more = QToolButton()
        self.more.setProperty("role", "ghost")
        self.more.setIconSize(QSize(20, 20))
        self.more.setCheckable(True)
        self.more.setAccessibleName("More words: what to keep away from, and a second prompt")
        self.more.setToolTip("What to keep away from, and a second prompt to blend with")
        self.chips = Chips(self.negative)
        self.limit = QLabel()
        self.limit.setProperty("role", "muted")
        self.limit.setTextFormat(Qt.TextFormat.RichText)
        self.limit.setWordWrap(True)
        self.limit.hide()
        self.limit.linkActivated.connect(lambda _: self.model_asked.emit())
        self.rows = QVBoxLayout(self)
        self._arrange()
        self.prompt.settled.connect(self._change_prompt)
        self.negative.settled.connect(lambda text: editor.change(negative_prompt=text))
        self.chips.chosen.connect(self._choose)
        self.more.toggled.connect(self.second.setVisible)
        self.prompt.textChanged.connect(self.chips.mark)
        self.prompt.textChanged.connect(self._say_limit)
        editor.changed.connect(self.follow)
        self.dress()
        self.follow()
        self.more.setChecked(bool(self.negative.text() or (self.blend and self.blend.words.text())))

    def show_styles(self, styles: tuple[Style, ...]) -> None:
        """Offer the styles that the model knows."""
        self._styles = styles
        self.chips.show_styles(styles)
        self._say_limit()

    def show_recent(self, prompts: Sequence[str]) -> None:
        """Offer these earlier prompts, the latest first."""
        self.recent_menu.clear()
        for prompt in prompts[:MOST_LISTED]:
            shown = prompt if len(prompt) < 60 else prompt[:57] + "…"
            action = self.recent_menu.addAction(shown.replace("&", "&&"))
            action.triggered.connect(lambda _=False, prompt=prompt: self._change_prompt(prompt))
        if not prompts:
            self.recent_menu.addAction("Nothing yet").setEnabled(False)

    def settle(self) -> None:
        """Whatever is being typed counts now."""
        for words in (self.prompt, self.negative):
            words.settle()
        if self.blend is not None:
            self.blend.words.settle()

    def follow(self) -> None:
        """Show the words of the settings."""
        self.prompt.follow(self._editor.text("prompt"))
        self.negative.follow(self._editor.text("negative_prompt"))
        if self.blend is not None:
            self.blend.follow()

    def dress(self) -> None:
        """Draw the icons in the theme's colours."""
        self.chips.dress()
        self._say_limit()
        self.recent.setIcon(icon("history"))
        self.more.setIcon(icon("sliders"))

    def _arrange(self) -> None:
        first = QHBoxLayout()
        first.setSpacing(6)
        first.addWidget(self.prompt, 1)
        first.addWidget(self.recent)
        first.addWidget(self.more)
        self.second = QWidget()
        inner = QVBoxLayout(self.second)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(8)
        if self.blend is not None:
            inner.addWidget(self.blend)
        inner.addLayout(named_row("Negative", self.negative))
        self.second.hide()
        self.rows.setContentsMargins(20, 14, 20, 8)
        self.rows.setSpacing(8)
        self.rows.addLayout(first)
        self.rows.addWidget(self.limit)
        self.rows.addWidget(self.second)
        self.rows.addWidget(self.chips)

    def _say_limit(self) -> None:
        """Say which words the model was never taught, where it has a list of what it was."""
        words = unknown(self.prompt.text(), self._styles)
        self.limit.setVisible(bool(words))
        if words:
            named = ", ".join(f"“{escape(word)}”" for word in words[:MOST_NAMED])
            verb = "has" if len(words) == 1 else "have"
            self.limit.setText(
                f"{named} {verb} no effect: this model restyles the picture, in the styles below. "
                f"{theme.link('models', 'Choose a model that takes any words')}"
            )

    def _change_prompt(self, prompt: str) -> None:
        self._editor.change(prompt=prompt, **self._beside())

    def _choose(self, style: Style) -> None:
        self._change_prompt(with_style(self.prompt.text(), style, self._styles))
        self.chips.mark(self.prompt.text())


def named_row(name: str, part: QWidget) -> QHBoxLayout:
    """A part with its name before it; the names of all rows are equally wide."""
    label = QLabel(name)
    label.setProperty("role", "muted")
    label.setFixedWidth(label.fontMetrics().horizontalAdvance("Blend with") + 8)
    label.setBuddy(part)
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(10)
    row.addWidget(label)
    row.addWidget(part, 1)
    return row
