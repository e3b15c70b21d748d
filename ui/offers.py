"""What can be chosen for a setting that is a text: its usual values, and files."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from app.catalogue import Entry
from app.sources.images import IMAGE_SUFFIXES
from app.weights_file import SUFFIX as WEIGHTS
from pipeline.adapter_list import entries_of, quoted
from pipeline.setting import Pick

_PICTURES = " ".join(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))


def offers_menu(entry: Entry, text: str, choose: Callable[[str], object], parent: QWidget) -> QMenu:
    """The values that can be chosen beside what is typed; of a list, each is added or taken away.

    Args:
        text: the setting's value now.
        choose: told of the new value.
    """
    menu = QMenu(parent)
    many = entry.setting.many
    for offer in entry.setting.offers:
        action = menu.addAction(_name(offer) if many else offer)
        action.setCheckable(True)
        action.setChecked(_listed(text, offer) is not None if many else text == offer)
        new = toggled(text, offer) if many else offer
        action.triggered.connect(lambda _=False, new=new: choose(new))
    if entry.setting.pick is not None:
        if not menu.isEmpty():
            menu.addSeparator()
        action = menu.addAction(_QUESTIONS[entry.setting.pick])
        action.triggered.connect(lambda: _pick(entry, text, choose, parent))
    if text:
        menu.addSeparator()
        menu.addAction("Nothing").triggered.connect(lambda: choose(""))
    return menu


def toggled(text: str, offer: str) -> str:
    """The list ``text`` without its entry of the name of ``offer``, or, where it has none, with ``offer``."""
    listed = _listed(text, offer)
    return "; ".join([one for one in entries_of(text) if one != listed] + ([] if listed else [offer]))


def with_file(entry: Entry, text: str, path: str) -> str:
    """The value of the setting with a file in it: the only one, or one more of a list."""
    if not entry.setting.many:
        return path
    return "; ".join([*entries_of(text), quoted(path)])


def _pick(entry: Entry, text: str, choose: Callable[[str], object], parent: QWidget) -> None:
    pick = entry.setting.pick
    if pick is Pick.FOLDER:
        path = QFileDialog.getExistingDirectory(parent, entry.label)
    else:
        kinds = f"Pictures ({_PICTURES})" if pick is Pick.PICTURE else f"Weights (*{WEIGHTS})"
        path, _ = QFileDialog.getOpenFileName(parent, entry.label, "", f"{kinds};;All files (*)")
    if path:
        choose(with_file(entry, text, path))


def _listed(text: str, offer: str) -> str | None:
    """The entry of the list ``text`` that has the name of ``offer``, whatever its weight."""
    return next((one for one in entries_of(text) if _name(one) == _name(offer)), None)


def _name(entry: str) -> str:
    return entry.partition("@")[0].partition(":")[0].strip()


_QUESTIONS = {
    Pick.PICTURE: "Choose a picture…",
    Pick.WEIGHTS: "Choose a file of weights…",
    Pick.FOLDER: "Choose a folder…",
}
