"""Looks to keep, take up again and pass on: the menu behind the presets button, and files dropped on the window."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QWidget

from app.presets import (
    SUFFIX,
    Preset,
    PresetError,
    import_preset,
    is_taken,
    list_presets,
    load_preset,
    presets_folder,
    save_preset,
)
from app.snapshot import SnapshotError, settings_of_snapshot
from ui.editor import Editor
from ui.icons import icon


class Presets(QObject):
    """Saves and applies presets by way of the editor, so that each can be undone.

    Signals:
        told: a sentence and its kind (``done``, ``warning`` or ``error``).
    """

    told = Signal(str, str)

    def __init__(self, editor: Editor, parent: QWidget, folder: Path | None = None) -> None:
        super().__init__(parent)
        self._editor = editor
        self._parent = parent
        self.folder = folder or presets_folder()

    def menu(self) -> QMenu:
        """What can be done now; made anew each time, as files come and go."""
        menu = QMenu(self._parent)
        for path in list_presets(self.folder):
            action = menu.addAction(path.stem.replace("&", "&&"))
            action.triggered.connect(lambda _=False, path=path: self.apply(path))
        if menu.isEmpty():
            menu.addAction("No presets yet").setEnabled(False)
        menu.addSeparator()
        menu.addAction(icon("plus"), "Save this look…").triggered.connect(self._ask_name)
        menu.addAction(icon("folder"), "Add from a file…").triggered.connect(self._ask_file)
        menu.addAction(icon("popout"), "Show the folder").triggered.connect(self._show_folder)
        return menu

    def apply(self, path: Path) -> bool:
        """Take up the look of this file. False where it cannot be read, which ``told`` says."""
        try:
            preset, notes = load_preset(path)
            look = preset.look
        except PresetError as error:
            self.told.emit(str(error), "error")
            return False
        self._editor.adopt(look, f"preset {preset.name}")
        self.told.emit(" ".join([f"“{preset.name}” is on.", *notes]), "warning" if notes else "done")
        return True

    def save(self, name: str, *, replace: bool = False) -> bool:
        """Keep the look of now under this name; one of the same name only goes if it may be replaced."""
        try:
            path = save_preset(Preset(name, self._editor.settings), self.folder, replace=replace)
        except PresetError as error:
            self.told.emit(str(error), "error")
            return False
        self.told.emit(f"Kept as “{path.stem}”.", "done")
        return True

    def take(self, path: Path) -> bool:
        """A preset file from elsewhere: keep it and take it up."""
        try:
            kept, _ = import_preset(path, self.folder)
        except PresetError as error:
            self.told.emit(str(error), "error")
            return False
        return self.apply(kept)

    def take_snapshot(self, path: Path) -> bool:
        """Take up the settings inside a snapshot of ours. False where the picture has none."""
        try:
            found, notes = settings_of_snapshot(path)
        except SnapshotError:
            return False
        self._editor.adopt(Preset(path.stem, found).look, f"settings of {path.name}")
        self.told.emit(" ".join([f"The look of {path.name} is on.", *notes]), "warning" if notes else "done")
        return True

    def _ask_name(self) -> None:
        given, accepted = QInputDialog.getText(self._parent, "Save this look", "Name")
        name = given.strip()
        if not accepted or not name:
            return
        replace = is_taken(name, self.folder)
        if replace:
            question = f"There is a preset “{name}” already. Replace it?"
            if QMessageBox.question(self._parent, "Save this look", question) != QMessageBox.StandardButton.Yes:
                return
        self.save(name, replace=replace)

    def _ask_file(self) -> None:
        found, _ = QFileDialog.getOpenFileName(self._parent, "Add a preset", "", f"Presets (*{SUFFIX});;All files (*)")
        if found:
            self.take(Path(found))

    def _show_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.told.emit(f"The folder {self.folder} cannot be made: {error.strerror}.", "error")
            return
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.folder)))
