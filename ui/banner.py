"""Words over the picture: what is wrong or under way, and short news that go away by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PySide6.QtCore import QElapsedTimer, QEvent, QObject, QSize, Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QProgressBar, QPushButton, QToolButton, QVBoxLayout, QWidget

from ui import theme
from ui.icons import icon, pixmap

WIDEST = 560
_EDGE = 20
_ROUND = 6  # what the border takes, and a fraction of a line that Qt rounds away
_LEAST_SECONDS, _SECONDS_PER_WORD = 4.0, 0.45
_IN_A_HURRY = 0.5  # of that, while others wait
MOST_WAITING = 4
Acts = Sequence[tuple[str, Callable[[], object]]]
_KINDS = {"info": "info", "working": "info", "warning": "warning", "error": "error", "done": "check"}


class Card(QFrame):
    """A sentence with an icon, and perhaps a button, floating over its parent."""

    def __init__(self, parent: QWidget, name: str, at: Qt.AlignmentFlag) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setCursor(Qt.CursorShape.ArrowCursor)  # whatever the pointer looks like over the picture
        self._at = at
        self._kind = "info"
        self._icon = QLabel()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.words.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.hide()
        self.button = QPushButton()
        self.second = QPushButton()
        self._acts: list[Callable[[], object]] = []
        for number, button in enumerate((self.button, self.second)):
            button.hide()
            button.clicked.connect(lambda _=False, number=number: self._acts[number]())
        self.dismiss = QToolButton()
        self.dismiss.setProperty("role", "small")
        self.dismiss.setIconSize(QSize(14, 14))
        self.dismiss.setAccessibleName("Dismiss")
        self.dismiss.clicked.connect(self.hide)
        self.dismiss.hide()
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(self._icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.words, 1)
        row.addWidget(self.button)
        row.addWidget(self.second)
        row.addWidget(self.dismiss, 0, Qt.AlignmentFlag.AlignTop)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 14, 12)
        column.setSpacing(10)
        column.addLayout(row)
        column.addWidget(self.progress)
        parent.installEventFilter(self)
        self.hide()

    @property
    def text(self) -> str:
        """The words on show; empty while hidden."""
        return self.words.text() if not self.isHidden() else ""

    def say(
        self,
        text: str,
        kind: str = "info",
        *,
        buttons: Acts = (),
        close: bool = False,
    ) -> None:
        """Show ``text``; nothing where it is empty.

        Args:
            text: for people.
            kind: ``info``, ``working`` (with a bar that runs), ``warning``, ``error`` or ``done``.
            buttons: what can be done about it, in words, and what does it; two at most.
            close: whether it can be sent away.
        """
        if not text:
            self.hide()
            return
        self._kind = kind
        self._acts = [act for _, act in buttons]
        for number, part in enumerate((self.button, self.second)):
            part.setText(buttons[number][0] if number < len(buttons) else "")
            part.setVisible(number < len(buttons))
        self.dismiss.setVisible(close)
        self.progress.setVisible(kind == "working")
        self.words.setText(text)
        self.setProperty("kind", kind)
        self.dress()
        self.show()
        self._place()
        self.raise_()

    def dress(self) -> None:
        """Draw in the theme's colours."""
        colours = theme.current()
        tint = {"error": colours.bad, "warning": colours.warn, "done": colours.good}.get(self._kind, colours.accent)
        self._icon.setPixmap(pixmap(_KINDS[self._kind], tint, 20, self.devicePixelRatio()))
        self.dismiss.setIcon(icon("close", size=14))
        self.style().unpolish(self)
        self.style().polish(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is QEvent.Type.Resize and not self.isHidden():
            self._place()
        return super().eventFilter(watched, event)

    def _place(self) -> None:
        parent = self.parentWidget()
        if parent is None:
            return
        width = min(WIDEST, parent.width() - 2 * _EDGE)
        wanted = self.words.fontMetrics().horizontalAdvance(self.words.text()) + 124
        for part in (self.button, self.second):
            if part.isVisibleTo(self):
                wanted += part.sizeHint().width() + 12
        width = max(200, min(width, wanted))
        self.setFixedWidth(width)
        self._column.activate()
        height = max(self._column.heightForWidth(width), self._column.minimumSize().height()) + _ROUND
        x = (parent.width() - width) // 2
        middle = (parent.height() - height) // 2
        bottom = parent.height() - height - _EDGE
        y = {Qt.AlignmentFlag.AlignTop: _EDGE, Qt.AlignmentFlag.AlignBottom: bottom}.get(self._at, middle)
        self.setGeometry(x, max(0, y), width, height)


@dataclass(frozen=True, slots=True)
class _News:
    text: str
    kind: str
    buttons: Acts = field(default=(), compare=False)

    @property
    def milliseconds(self) -> int:
        """How long it takes to read, at leisure."""
        return round(1000 * (_LEAST_SECONDS + _SECONDS_PER_WORD * len(self.text.split())))


class Toast(Card):
    """News that leave again, one after the other: none before it could be read, and an error before the others."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent, "toast", Qt.AlignmentFlag.AlignBottom)
        self.dismiss.clicked.disconnect(self.hide)
        self.dismiss.clicked.connect(self._next)
        self._on_show: _News | None = None
        self._waiting: list[_News] = []
        self._shown = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)

    def tell(self, text: str, kind: str = "info", buttons: Acts = ()) -> None:
        """Show ``text`` for as long as it takes to read; after what is on show, unless it is an error.

        While others wait, each is shown for half as long. At most ``MOST_WAITING`` wait: the oldest are given up,
        errors last. The same words again are one.
        """
        news = _News(text, kind, buttons)
        if not text or news in self._waiting:
            return
        present = self._on_show
        if present is None or news == present:
            self._show(news)
        elif kind == "error" and present.kind != "error":
            if self._shown.elapsed() < present.milliseconds * _IN_A_HURRY:
                self._waiting.insert(0, present)
            self._show(news)
        else:
            self._waiting.append(news)
        self._waiting.sort(key=lambda one: one.kind != "error")  # keeps the order among equals
        while len(self._waiting) > MOST_WAITING:
            self._waiting.remove(next((one for one in self._waiting if one.kind != "error"), self._waiting[0]))
        self._hurry()

    def _show(self, news: _News) -> None:
        self._on_show = news
        self._shown.start()
        self.say(news.text, news.kind, buttons=news.buttons, close=True)
        self._timer.start(news.milliseconds)

    def _hurry(self) -> None:
        if self._on_show is not None and self._waiting:
            left = self._on_show.milliseconds * _IN_A_HURRY - self._shown.elapsed()
            self._timer.start(max(0, round(left)))

    def _next(self) -> None:
        if self._waiting:
            self._show(self._waiting.pop(0))
            self._hurry()
        else:
            self._on_show = None
            self._timer.stop()
            self.hide()
