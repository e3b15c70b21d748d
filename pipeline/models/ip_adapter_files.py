"""Where an IP-Adapter and its image encoder lie: h94's layout, a folder, a file, the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pipeline.models.errors import ModelError
from pipeline.models.hub import download_part, looks_like_hub_id
from pipeline.models.image_encoder import read_facts as read_encoder_facts
from pipeline.models.ip_adapter import IpAdapterFacts, read_facts
from pipeline.models.weights import SUFFIX
from pipeline.user_path import is_file, is_folder, is_there, user_path

_ENCODER = "image_encoder"
# In h94's repository: the folders of the adapters, each with the image encoder that its own were trained with.
_FOLDERS = ("models", "sdxl_models")
_KIND = "IP-Adapter"


def find_ip_adapter(spec: str, usual: str, obstacle: Callable[[IpAdapterFacts], str | None]) -> Path:
    """The file that ``spec`` means.

    Args:
        spec: a file, a folder, ``owner/name`` or ``owner/name/path/to/file.safetensors`` on the hub; empty for
            ``usual``.
        usual: the usual one of the model's family, as it is named on the hub; empty where there is none.
        obstacle: see ``IpAdapterFacts.obstacle``.

    Raises:
        ModelError: there is none, or none that fits the model.
    """
    path = user_path(spec or usual)
    if is_folder(path):
        path = _in_folder(path, PurePosixPath(usual).name, obstacle)
    elif not is_there(path):
        path = _on_hub(spec or usual, usual)
    if not is_file(path):
        raise _absent(spec)
    problem = obstacle(read_facts(path))
    if problem is not None:
        raise ModelError(f"the {_KIND} {path.name} {problem}; take one for this model")
    return path


def _absent(spec: str) -> ModelError:
    return ModelError(f"there is no {_KIND} {spec!r}: give a {SUFFIX} file, a folder, or a hub name (owner/name)")


def _in_folder(folder: Path, usual: str, obstacle: Callable[[IpAdapterFacts], str | None]) -> Path:
    """The one in ``folder`` that fits: the usual one of the family, or else the only one."""
    places = [folder, *(folder / name for name in _FOLDERS)]
    files = [path for place in places for path in sorted(place.glob(f"*{SUFFIX}"))]
    if not files:
        raise ModelError(f"{folder} holds no {_KIND}: no {SUFFIX} file is in it; give one by its path")
    fitting, problems = [], []
    for path in files:
        try:
            problem = obstacle(read_facts(path))
        except ModelError as error:
            problems.append(str(error))
            continue
        if problem is None:
            fitting.append(path)
        else:
            problems.append(f"the {_KIND} {path.name} {problem}; take one for this model")
    if not fitting:
        raise ModelError(problems[0] if len(files) == 1 else f"{folder} holds no {_KIND} for this model: {problems[0]}")
    preferred = [path for path in fitting if path.name == usual] or fitting
    if len(preferred) > 1:
        names = ", ".join(path.name for path in preferred[:4])
        raise ModelError(f"{folder} holds {len(preferred)} {_KIND}s for this model ({names}); give one by its path")
    return preferred[0]


def _on_hub(spec: str, usual: str) -> Path:
    """The file ``spec`` of the hub, in the cache; with the configurations of the encoders that lie beside it there."""
    match = re.fullmatch(rf"([\w.-]+/[\w.@-]+)(?:/(.+\{SUFFIX}))?", spec)
    if match is None or not looks_like_hub_id(match[1]):
        raise _absent(spec)
    name, file = match[1], match[2] or "/".join(usual.split("/")[2:])
    if not file:
        raise ModelError(f"which {_KIND} of {name} is meant is not known; give it as owner/name/path/to/file{SUFFIX}")
    folder = download_part(name, _KIND, files=(file, f"**/{_ENCODER}/config.json"))
    path = folder / file
    if not is_file(path):
        raise ModelError(f"{name} on the hub has no {file}; give the {_KIND} as owner/name/path/to/file{SUFFIX}")
    encoder = _fitting_encoder(path, read_facts(path))
    if encoder is not None:
        place = encoder.relative_to(folder).as_posix()
        download_part(name, "image encoder", files=(f"{place}/*.json", f"{place}/*{SUFFIX}"))
    return path


def find_encoder(adapter: Path) -> Path:
    """The folder of the image encoder that the adapter in the file ``adapter`` reads.

    Raises:
        ModelError: there is none beside it.
    """
    found = _fitting_encoder(adapter, read_facts(adapter))
    if found is None:
        there = [str(place) for place in _encoder_places(adapter) if is_folder(place)]
        other = f"; what is in {' and '.join(there)} is another one" if there else ""
        looked = ", ".join(str(place) for place in _encoder_places(adapter))
        raise ModelError(
            f"the image encoder of the {_KIND} {adapter.name} is missing: it was looked for in {looked}{other}; "
            f"get the folder {_ENCODER} from where the {_KIND} is from, and put it beside the file"
        )
    return found


def _encoder_places(adapter: Path) -> Iterator[Path]:
    """Where the encoder of an adapter may lie: beside it, above it, and as h94's repository shares them."""
    home = adapter.parent
    return iter(dict.fromkeys(place / _ENCODER for place in (home, home.parent, *(home.parent / f for f in _FOLDERS))))


def _fitting_encoder(adapter: Path, facts: IpAdapterFacts) -> Path | None:
    for place in _encoder_places(adapter):
        if is_file(place / "config.json") and facts.reads(read_encoder_facts(place)):
            return place
    return None
