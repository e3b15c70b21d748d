"""What opens beside the window: the dialogs, the veil for a region, and the clean feed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QFileDialog, QWidget

from app.drawing_file import DrawingError, open_drawing, save_drawing
from app.files import names, snapshots_folder
from app.screens import screen_at
from app.session import Session
from app.sources import SourceError
from app.sources.images import read_image
from app.sources.screen import screens
from app.weights_file import WeightsError, with_weights
from pipeline.picture_file import WRITTEN_SUFFIXES
from ui.bridge import Bridge
from ui.choice import CANVAS, Choice
from ui.clean_feed import CleanFeed, transparent_here
from ui.editor import Editor
from ui.models_dialog import ModelsDialog
from ui.region import RegionPicker
from ui.shortcuts import ShortcutsDialog
from ui.source_dialog import SourceDialog, ask_file
from ui.sources import SourceSwitch


class Dialogs(QObject):
    """Opens them, one of a kind at most, none of which stops the picture.

    Args:
        window: that they belong to.
        session, editor, switch, bridge: what they show and change.

    Signals:
        failed: one sentence on what could not be done.
        taken: one sentence on what a file was taken as.
        feed_changed: whether the clean feed is open.
    """

    failed = Signal(str)
    taken = Signal(str)
    feed_changed = Signal(bool)

    def __init__(self, window: QWidget, session: Session, editor: Editor, switch: SourceSwitch, bridge: Bridge) -> None:
        super().__init__(window)
        self._window = window
        self._session = session
        self._editor = editor
        self._switch = switch
        self._bridge = bridge
        self._open: dict[str, QDialog] = {}
        self.feed: CleanFeed | None = None
        self.pickers: list[RegionPicker] = []  # one for each screen, while a region is being drawn

    @property
    def source(self) -> SourceDialog | None:
        """The source dialog, while it is open."""
        found = self._open.get("source")
        return found if isinstance(found, SourceDialog) else None

    @property
    def models(self) -> ModelsDialog | None:
        """The model dialog, while it is open."""
        found = self._open.get("models")
        return found if isinstance(found, ModelsDialog) else None

    def open_source(self) -> None:
        """Choose a source."""
        dialog = SourceDialog(self._editor, self._switch.choice, self._window)
        dialog.chosen.connect(self._switch.choose)
        dialog.region_asked.connect(self.pick_region)
        self._show("source", dialog)

    def pick_region(self) -> None:
        """Draw a region over the desktop."""
        try:
            known = screens()
        except SourceError as error:
            self.failed.emit(str(error))
            return
        self._end_pickers()
        for screen in QGuiApplication.screens():
            corner = screen.geometry().topLeft()
            picker = RegionPicker(screen, screen_at(known, corner.x(), corner.y()))
            picker.picked.connect(self._take_region)
            picker.cancelled.connect(self._end_pickers)
            self.pickers.append(picker)
        for picker in self.pickers:
            picker.show()
        self.pickers[0].activateWindow()

    def open_models(self) -> None:
        """Choose a model."""
        model = self._session.model
        dialog = ModelsDialog(self._editor, model.name if model else "", self._window)
        dialog.cancelled.connect(self._keep_model)
        dialog.weights_chosen.connect(self.take_weights)
        self._show("models", dialog)
        self.look()

    def take_weights(self, path: Path) -> None:
        """Use this .safetensors file: a model, a LoRA, or a learned word."""
        try:
            changes, what = with_weights(self._session.settings, path)
        except WeightsError as error:
            self.failed.emit(str(error))
            return
        if self._editor.change(**changes):
            article = "an" if what[0] in "AEIOU" else "a"
            self.taken.emit(f"{path.name} is taken as {article} {what}.")

    def open_shortcuts(self) -> None:
        """Show the shortcuts."""
        self._show("shortcuts", ShortcutsDialog(self._window))

    def show_feed(self, shown: bool) -> None:
        """Open the clean feed, or close it."""
        if not shown:
            if self.feed is not None:
                self.feed.close()
            return
        if self.feed is None:
            nothing_behind = self._session.settings.stream.background == "none"
            self.feed = CleanFeed(transparent=nothing_behind and transparent_here())
            self.feed.closed.connect(self._forget_feed)
            counts = self._session.metrics()
            if counts.width:
                self.feed.fit(counts.width, counts.height)
            self._bridge.attach(self.feed.viewer.presenter)
        self.feed.show()
        self.feed_changed.emit(True)

    def import_picture(self) -> None:
        """Lay a picture on the canvas's paper."""
        path = ask_file(self._window, pictures_only=True)
        if path is not None:
            self.lay_on_paper(path)

    def lay_on_paper(self, path: Path) -> None:
        """Lay this picture on the canvas's paper."""
        try:
            self._switch.drawing.import_picture(read_image(path))
        except (SourceError, ValueError) as error:
            self.failed.emit(str(error))

    def open_drawing(self) -> None:
        """Go on with a picture as the canvas's drawing."""
        path = ask_file(self._window, pictures_only=True)
        if path is not None:
            self._try(lambda: open_drawing(self._switch.drawing, path))

    def save_drawing(self) -> None:
        """Save the canvas's drawing as a picture."""
        suggested = next(path for path in names(snapshots_folder(), WRITTEN_SUFFIXES[0]) if not path.exists())
        kinds = " ".join(f"*{suffix}" for suffix in WRITTEN_SUFFIXES)
        dialog = QFileDialog(self._window, "Save the drawing", str(suggested.parent), f"Pictures ({kinds})")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)  # asks before a file is replaced
        dialog.setDefaultSuffix(WRITTEN_SUFFIXES[0])
        dialog.selectFile(suggested.name)
        if dialog.exec():
            self.save_drawing_as(Path(dialog.selectedFiles()[0]))
        dialog.deleteLater()

    def save_drawing_as(self, path: Path) -> None:
        """Save the canvas's drawing there."""
        if self._try(lambda: save_drawing(self._switch.drawing, path)):
            self.taken.emit(f"The drawing is saved as {path}.")

    def _try(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except DrawingError as error:
            self.failed.emit(str(error))
            return False
        return True

    def look(self) -> None:
        """Follow the model on its way in."""
        if self.models is None:
            return
        model, refused = self._session.model, self._session.refused_model
        error = ""
        if refused is not None and not self._session.loading:
            error = f"{refused.value}: {refused.reason}; the model before it goes on"
        self.models.show_serving(
            model.name if model else "", loading=self._session.loading, fetched=self._session.fetched, error=error
        )

    def close(self) -> None:
        """Close all of them."""
        self.show_feed(False)
        for dialog in list(self._open.values()):
            dialog.close()
        self._end_pickers()

    def _show(self, name: str, dialog: QDialog) -> None:
        before = self._open.pop(name, None)
        if before is not None:
            before.close()
        self._open[name] = dialog
        dialog.finished.connect(self._forgetting(name, dialog))
        dialog.open()

    def _forgetting(self, name: str, dialog: QDialog) -> Callable[[int], None]:
        def forget(_: int) -> None:
            if self._open.get(name) is dialog:
                del self._open[name]
            dialog.deleteLater()

        return forget

    def _forget_feed(self) -> None:
        feed, self.feed = self.feed, None
        if feed is not None:
            self._bridge.detach(feed.viewer.presenter)
            feed.deleteLater()
            self.feed_changed.emit(False)

    def _end_pickers(self) -> None:
        pickers, self.pickers = self.pickers, []
        for picker in pickers:
            picker.close()

    def _take_region(self, screen: int, region: tuple[int, int, int, int]) -> None:
        self._end_pickers()
        spec = f"screen:{screen}:{','.join(str(part) for part in region)}"
        self._switch.choose(Choice(spec, f"Region {region[2]} × {region[3]}"))

    def _keep_model(self) -> None:
        serving = self._session.serving
        self._session.cancel_loading()
        if serving is not None:
            self._session.owner.keep_model(self._session.settings, serving)


def canvas_choice() -> Choice:
    """The canvas as a source."""
    return Choice(CANVAS, "Canvas")
