"""Choose the model: the one inside, a folder, a single file, or a name on the hub. The old one serves meanwhile."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QSize, Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.fetching import fetched_words
from pipeline.adapter_list import parse_files, parse_loras
from ui.editor import Editor
from ui.icons import icon

EMBEDDED = "embedded"
_KINDS = (
    ("The model inside", "Works at once, without a network", "cube"),
    ("A folder", "In the diffusers layout", "folder"),
    ("A single file", "One .safetensors file", "save"),
    ("A name on the hub", "Fetched once, then kept", "broadcast"),
)
_FINE = 1000  # steps of the bar


class ModelsDialog(QDialog):
    """The dialog.

    Args:
        editor: whose ``model`` setting is changed.
        serving: name of the model that serves now; empty before the first.

    Signals:
        cancelled: the change of the model that is under way is not wanted any more.
        weights_chosen: path of a file to add to the model.
    """

    cancelled = Signal()
    weights_chosen = Signal(Path)

    def __init__(self, editor: Editor, serving: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a model")
        self.resize(600, 400)
        self._editor = editor
        self.kinds: list[QPushButton] = []
        self.place = QLineEdit()
        self.place.setAccessibleName("Where the model is")
        self.browse = QPushButton("Browse…")
        self.note = QLabel()
        self.note.setProperty("role", "muted")
        self.note.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.stop = QPushButton("Keep the old one")
        self.use = QPushButton("Use this model")
        self.use.setProperty("role", "primary")
        self.use.setDefault(True)
        self.close_ = QPushButton("Close")
        self.added = QLabel()
        self.added.setProperty("role", "muted")
        self.added.setWordWrap(True)
        self.add = QPushButton("Add a LoRA…")
        self.remove = QPushButton("Remove all")
        self._together = QButtonGroup(self)
        self._arrange()
        self.browse.clicked.connect(self._browse)
        self.use.clicked.connect(self._use)
        self.stop.clicked.connect(self.cancelled.emit)
        self.close_.clicked.connect(self.reject)
        self.add.clicked.connect(self._add)
        self.remove.clicked.connect(lambda: editor.change(loras="", embeddings=""))
        editor.changed.connect(self._show_added)
        self._show_added()
        self.place.textChanged.connect(lambda _: self._follow_kind())
        wanted = editor.text("model")
        self.kinds[_kind_of(wanted)].setChecked(True)
        if wanted != EMBEDDED:
            self.place.setText(wanted)
        self._follow_kind()
        self.show_serving(serving)

    def spec(self) -> str:
        """What is chosen, as the setting takes it; empty where nothing is named yet."""
        return EMBEDDED if self.kinds[0].isChecked() else self.place.text().strip()

    def show_serving(
        self, serving: str, *, loading: bool = False, fetched: tuple[int, int] | None = None, error: str = ""
    ) -> None:
        """Say which model serves, whether another one is on its way, and why one could not be loaded.

        Args:
            fetched: bytes so far and in all of a download (0: not known); None where there is none.
        """
        wanted = self._editor.text("model")
        fetching = fetched_words(wanted, fetched)
        share = fetched[0] / fetched[1] if fetching and fetched is not None and fetched[1] else None
        self.progress.setRange(0, 0 if share is None else _FINE)
        self.progress.setValue(round(_FINE * (share or 0)))
        self.progress.setVisible(loading)
        self.stop.setText("Keep the old one" if serving else "Cancel")
        self.stop.setVisible(loading and bool(serving or fetching))
        self.note.setProperty("role", "problem" if error else "muted")
        self.note.style().unpolish(self.note)
        self.note.style().polish(self.note)
        if error:
            self.note.setText(error)
        elif loading:
            meanwhile = f" “{serving}” goes on meanwhile." if serving else ""
            self.note.setText(f"{fetching or f'Loading “{wanted}”'}.{meanwhile}")
        else:
            self.note.setText(f"“{serving}” is at work." if serving else "No model is loaded yet.")

    def _arrange(self) -> None:
        title = QLabel("Which model should draw?")
        title.setProperty("role", "title")
        tiles = QGridLayout()
        tiles.setSpacing(10)
        for index, (name, text, drawing) in enumerate(_KINDS):
            tile = QPushButton(icon(drawing, size=20), f"{name}\n{text}")
            tile.setProperty("role", "tile")
            tile.setIconSize(QSize(20, 20))
            tile.setCheckable(True)
            tile.setAccessibleName(name)
            tile.clicked.connect(self._follow_kind)
            self._together.addButton(tile)
            self.kinds.append(tile)
            tiles.addWidget(tile, index // 2, index % 2)
        where = QHBoxLayout()
        where.setSpacing(8)
        where.addWidget(self.place, 1)
        where.addWidget(self.browse)
        addons = QHBoxLayout()
        addons.setSpacing(8)
        addons.addWidget(self.added, 1)
        addons.addWidget(self.remove)
        addons.addWidget(self.add)
        foot = QHBoxLayout()
        foot.setSpacing(10)
        foot.addWidget(self.stop)
        foot.addStretch(1)
        foot.addWidget(self.close_)
        foot.addWidget(self.use)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 22, 24, 20)
        column.setSpacing(16)
        column.addWidget(title)
        column.addLayout(tiles)
        column.addLayout(where)
        column.addLayout(addons)
        column.addWidget(self.note)
        column.addWidget(self.progress)
        column.addStretch(1)
        column.addLayout(foot)

    def _follow_kind(self) -> None:
        kind = next(index for index, tile in enumerate(self.kinds) if tile.isChecked())
        hints = ("", "The folder with model_index.json in it", "Path of the .safetensors file", "stabilityai/sd-turbo")
        self.place.setVisible(kind > 0)
        self.browse.setVisible(kind in (1, 2))
        self.place.setPlaceholderText(hints[kind])
        self.use.setEnabled(bool(self.spec()))

    def _browse(self) -> None:
        if self.kinds[1].isChecked():
            found = QFileDialog.getExistingDirectory(self, "The model's folder")
        else:
            found, _ = QFileDialog.getOpenFileName(
                self, "The model's file", "", "Models (*.safetensors);;All files (*)"
            )
        if found:
            self.place.setText(found)

    def _add(self) -> None:
        found, _ = QFileDialog.getOpenFileName(
            self, "A LoRA, or the file of a learned word", "", "Weights (*.safetensors)"
        )
        if found:
            self.weights_chosen.emit(Path(found))

    def _show_added(self) -> None:
        names = [Path(name).stem for name, _ in parse_loras(self._editor.text("loras"))]
        names += [Path(name).stem for name in parse_files(self._editor.text("embeddings"))]
        self.added.setText(f"With it: {', '.join(names)}." if names else "No LoRA is added to it.")
        self.remove.setVisible(bool(names))

    def _use(self) -> None:
        if self.spec():
            self._editor.change(model=self.spec())


def _kind_of(spec: str) -> int:
    if spec == EMBEDDED:
        return 0
    if spec.endswith(".safetensors"):
        return 2
    return 1 if spec.startswith((".", "/", "~", "\\")) or ":" in spec else 3
