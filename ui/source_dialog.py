"""Choose what to watch: a camera, a screen, a window, a region, a file, or the canvas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app.cameras import CAMERA_SIZES, cameras
from app.listing import Listing
from app.sources import SourceError
from app.sources.images import IMAGE_SUFFIXES
from app.sources.screen import screens
from app.window_list import WAYLAND_ADVICE, NoWindows, on_wayland, windows
from assets.sample import clip_path
from ui.choice import CANVAS, Choice
from ui.editor import Editor
from ui.icons import icon
from ui.inputs import Choice as ChoiceBox
from ui.inputs import Switch

_LOOK_MS = 200  # to see the answer to a question that is asked every two seconds (``app/listing.py``)
_LOOKING = "Looking…"
_VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")
_KINDS = (
    ("Camera", "camera"),
    ("Screen", "screen"),
    ("Window", "window"),
    ("File", "film"),
    ("Canvas", "brush"),
    ("Samples", "testcard"),
)


class SourceDialog(QDialog):
    """The dialog. It opens nothing: what was chosen is told, and the caller switches to it.

    Cameras, screens and windows are looked for on threads of their own: some drivers take a second to answer.

    Signals:
        chosen: a ``Choice``.
        region_asked: the user wants to draw a region of the desktop.
    """

    chosen = Signal(object)
    region_asked = Signal()

    def __init__(self, editor: Editor, current: Choice, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a source")
        self.resize(720, 480)
        self._editor = editor
        self._current = current
        self.kinds = QListWidget()
        self.kinds.setFixedWidth(160)
        self.kinds.setIconSize(QSize(18, 18))
        self.kinds.setAccessibleName("Kind of source")
        for text, drawing in _KINDS:
            item = QListWidgetItem(icon(drawing, size=18), text)
            item.setSizeHint(QSize(120, 40))
            self.kinds.addItem(item)
        self.pages = QStackedWidget()
        self.cameras = _choices("Cameras")
        self.screens = _choices("Screens")
        self.windows = _choices("Windows")
        self.samples = _choices("Samples")
        self.no_cameras = _note()
        self.no_screens = _note()
        self.no_windows = _note()
        self._cameras = Listing(_cameras_found)
        self._screens = Listing(_screens_found)
        self._windows = Listing(_windows_found)
        self.size_ = ChoiceBox()
        self.mirror = Switch()
        self.path = QLabel("Nothing chosen yet.")
        self._file: Choice | None = None
        self.use = QPushButton("Use this source")
        self.cancel = QPushButton("Cancel")
        self._add_pages()
        self._arrange()
        self._connect()
        self.look()
        names = {"camera": 0, "screen": 1, "region": 1, "window": 2, "image": 3, "folder": 3, "video": 3, CANVAS: 4}
        sample = current.spec in (str(clip_path()), "testcard", "text")
        self.kinds.setCurrentRow(5 if sample else names.get(current.kind, 0))
        self._follow()

    def look(self) -> None:
        """Show the cameras, screens and windows that were seen last. Never waits."""
        for listing, choices, note in (
            (self._cameras, self.cameras, self.no_cameras),
            (self._screens, self.screens, self.no_screens),
            (self._windows, self.windows, self.no_windows),
        ):
            found = listing.seen or _Found((), _LOOKING)
            _fill(choices, found.choices, self._current)
            note.setText(found.reason)
            note.setVisible(bool(found.reason))
            choices.setVisible(bool(found.choices))
        self._follow()

    def choice(self) -> Choice | None:
        """What is chosen at the moment; None where nothing is."""
        row = self.kinds.currentRow()
        if row == 0:
            camera = _chosen(self.cameras)
            return Choice(f"{camera.spec}@{self.size_.currentText()}", camera.name) if camera else None
        if row == 3:
            return self._file
        if row == 4:
            return Choice(CANVAS, "Canvas")
        listed = {1: self.screens, 2: self.windows, 5: self.samples}.get(row)
        return _chosen(listed) if listed is not None else None

    def take_file(self, path: Path) -> None:
        """Choose this file."""
        self._file = Choice(str(path), path.name)
        self.path.setText(str(path))
        self._follow()

    # -- putting together ---------------------------------------------------------------------------------------------

    def _add_pages(self) -> None:
        self._offer_sizes()
        self.size_.setAccessibleName("Picture size of the camera")
        self.mirror.setAccessibleName("Mirror")
        self.mirror.setChecked(bool(self._editor.value("mirror")))
        options = QHBoxLayout()
        for name, part in (("Picture", self.size_), ("Mirror", self.mirror)):
            options.addWidget(QLabel(name))
            options.addWidget(part)
            options.addSpacing(16)
        options.addStretch(1)
        page = self._page("The camera is opened when you use it, and closed when you pause.", self.cameras)
        page.insertWidget(2, self.no_cameras)
        page.addLayout(options)
        page.addStretch()
        self._add_screens()
        page = self._page(
            "A window, followed where it is moved. What lies over it is in the picture too.", self.windows
        )
        page.insertWidget(2, self.no_windows)
        page.addStretch()
        choose = QPushButton(icon("folder", size=18), "Choose a video or a picture…")
        choose.clicked.connect(self._ask_file)
        self.path.setWordWrap(True)
        self.path.setProperty("role", "muted")
        page = self._page("A clip plays over and over, with a bar to wind it. You can also drop a file on the window.")
        page.addWidget(choose, 0, Qt.AlignmentFlag.AlignLeft)
        page.addWidget(self.path)
        page.addStretch(1)
        self._page("An empty paper to paint on, with the model redrawing beside it as you go.").addStretch(1)
        _fill(
            self.samples,
            [
                Choice(str(clip_path()), "Sample clip"),
                Choice("testcard", "Moving test card"),
                Choice("text", "Text to image"),
            ],
            self._current,
        )
        self._page("To try things without a camera.", self.samples)

    def _offer_sizes(self) -> None:
        """The usual sizes, and the one that the camera runs at, which is chosen."""
        sizes = [f"{width}x{height}" for width, height in CAMERA_SIZES]
        _, at, running = self._current.spec.rpartition("@")
        if at and self._current.kind == "camera" and running not in sizes:
            sizes.insert(0, running)
        self.size_.addItems(sizes)
        if at and self._current.kind == "camera":
            self.size_.setCurrentText(running)

    def _add_screens(self) -> None:
        if on_wayland():
            camera = QPushButton(icon("camera", size=18), "Choose OBS's virtual camera…")
            camera.clicked.connect(lambda: self.kinds.setCurrentRow(0))
            page = self._page(WAYLAND_ADVICE)
            page.addWidget(camera, 0, Qt.AlignmentFlag.AlignLeft)
            page.addStretch(1)
            return
        region = QPushButton(icon("region", size=18), "Draw a region…")
        region.clicked.connect(self._ask_region)
        page = self._page("All that is on the screen, or a part of it.", self.screens)
        page.insertWidget(2, self.no_screens)
        page.addWidget(region, 0, Qt.AlignmentFlag.AlignLeft)

    def _page(self, text: str, choices: QListWidget | None = None) -> QVBoxLayout:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        label = _note()
        label.setText(text)
        column.addWidget(label)
        if choices is not None:
            column.addWidget(choices, 1)
        self.pages.addWidget(page)
        return column

    def _arrange(self) -> None:
        title = QLabel("What should Vitrail watch?")
        title.setProperty("role", "title")
        self.use.setProperty("role", "primary")
        self.use.setDefault(True)
        middle = QHBoxLayout()
        middle.setSpacing(20)
        middle.addWidget(self.kinds)
        middle.addWidget(self.pages, 1)
        foot = QHBoxLayout()
        foot.setSpacing(10)
        foot.addStretch(1)
        foot.addWidget(self.cancel)
        foot.addWidget(self.use)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 22, 24, 20)
        column.setSpacing(18)
        column.addWidget(title)
        column.addLayout(middle, 1)
        column.addLayout(foot)

    def _connect(self) -> None:
        self.kinds.currentRowChanged.connect(self.pages.setCurrentIndex)
        self.kinds.currentRowChanged.connect(lambda _: self._follow())
        for choices in (self.cameras, self.screens, self.windows, self.samples):
            choices.currentRowChanged.connect(lambda _: self._follow())
            choices.itemActivated.connect(lambda _: self._use())
        self.mirror.toggled.connect(lambda on: self._editor.change(mirror=on))
        self.use.clicked.connect(self._use)
        self.cancel.clicked.connect(self.reject)
        timer = QTimer(self)  # hot-plug: new cameras, screens and windows show up while the dialog is open
        timer.setInterval(_LOOK_MS)
        timer.timeout.connect(self.look)
        timer.start()

    # -- what the user does -------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self.use.setEnabled(self.choice() is not None)

    def _use(self) -> None:
        choice = self.choice()
        if choice is not None:
            self.accept()
            self.chosen.emit(choice)

    def _ask_region(self) -> None:
        self.accept()
        self.region_asked.emit()

    def _ask_file(self) -> None:
        path = ask_file(self)
        if path is not None:
            self.take_file(path)


def ask_file(parent: QWidget, *, pictures_only: bool = False) -> Path | None:
    """Have the user choose a video or a picture; None where they do not."""
    suffixes = sorted(IMAGE_SUFFIXES) if pictures_only else [*_VIDEO_SUFFIXES, *sorted(IMAGE_SUFFIXES)]
    what = "Pictures" if pictures_only else "Videos and pictures"
    pattern = " ".join(f"*{suffix}" for suffix in suffixes)
    found, _ = QFileDialog.getOpenFileName(parent, f"Choose {what.lower()}", "", f"{what} ({pattern});;All files (*)")
    return Path(found) if found else None


def _choices(name: str) -> QListWidget:
    made = QListWidget()
    made.setAccessibleName(name)
    return made


def _note() -> QLabel:
    label = QLabel()
    label.setProperty("role", "muted")
    label.setWordWrap(True)
    return label


def _fill(into: QListWidget, found: Sequence[Choice], current: Choice) -> None:
    """List what was found, keeping what is selected; nothing happens where nothing has changed."""
    before = [into.item(row).data(Qt.ItemDataRole.UserRole) for row in range(into.count())]
    if before == list(found):
        return
    selected = _chosen(into)
    into.clear()
    for one in found:
        item = QListWidgetItem(one.name)
        item.setSizeHint(QSize(160, 38))
        item.setData(Qt.ItemDataRole.UserRole, one)
        into.addItem(item)
    wanted = selected or current
    matching = (row for row, one in enumerate(found) if one == wanted or wanted.spec.startswith(f"{one.spec}@"))
    if found:
        into.setCurrentRow(next(matching, 0))


def _chosen(choices: QListWidget) -> Choice | None:
    item = choices.currentItem()
    return item.data(Qt.ItemDataRole.UserRole) if item is not None else None


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to choose, or why nothing is."""

    choices: Sequence[Choice]
    reason: str = ""


def _cameras_found() -> _Found:
    found = [Choice(f"camera:{camera.index}", camera.name) for camera in cameras()]
    return _Found(found, "" if found else "No camera was found. Plug one in: it will be listed here at once.")


def _screens_found() -> _Found:
    if on_wayland():
        return _Found((), WAYLAND_ADVICE)
    try:
        known = screens()
    except SourceError as error:
        return _Found((), str(error))
    return _Found(
        [Choice(f"screen:{one.number}", f"Screen {one.number}  ·  {one.width} × {one.height}") for one in known]
    )


def _windows_found() -> _Found:
    try:
        found = [Choice(f"window:{window.number}", window.title) for window in windows()]
    except NoWindows as error:
        return _Found((), str(error))
    return _Found(found, "" if found else "No window is open that could be watched.")
