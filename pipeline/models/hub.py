"""Files from the Hugging Face hub: from its cache where they are there, downloaded where they are not."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.model_files import INDEX
from pipeline.models.errors import ModelError, first_line
from pipeline.models.weights import weight_files
from pipeline.user_path import is_file

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# Told of a download: bytes so far, and bytes in all (0 where that is not known). May raise, to cancel it.
Progress = Callable[[int, int], None]

# Configurations, vocabularies and safetensors. Pickles are never fetched, and neither is code.
_WANTED = ["*.json", "*/*.json", "*/*.txt", "*/*.safetensors"]
# Weights of parts that a stream does not use, and weights that are there in another form as well.
_UNWANTED = ["safety_checker/*", "image_encoder/*", "feature_extractor/*", "*/*.fp32.safetensors", "*.non_ema.*"]
# Seconds that the hub has to answer at all.
_PATIENCE_SECONDS = 10.0

logger = logging.getLogger(__name__)


def looks_like_hub_id(spec: str) -> bool:
    """Whether ``spec`` has the form ``owner/name`` or ``owner/name@revision``."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", spec) is not None and not spec.startswith((".", "/", "~"))


def download(spec: str, progress: Progress | None = None) -> Path:
    """The local folder of hub model ``owner/name`` (or ``owner/name@revision``), complete.

    What is whole in the cache is taken from there without asking the hub; what an earlier call has fetched in part is
    not fetched again.

    Raises:
        ModelError: unknown, gated or private model; no connection and not in the cache; damaged on the way; disk full.
    """
    folder = _fetch(spec, _WANTED, _UNWANTED, "model", _is_whole_model, progress)
    if not is_file(folder / INDEX):
        raise ModelError(
            f"{spec} is on the hub, but not in the diffusers layout ({INDEX} is missing); "
            "download its .safetensors file and give that instead"
        )
    return folder


def download_part(
    spec: str, what: str, progress: Progress | None = None, files: Sequence[str] = ("*.json", "*.safetensors")
) -> Path:
    """The local folder of a single part, such as an autoencoder or an adapter, as ``download`` does for a model."""

    def is_whole(folder: Path) -> bool:
        return all(any(folder.glob(pattern)) for pattern in files if pattern != "*.json")

    return _fetch(spec, files, (), what, is_whole, progress)


def _fetch(
    spec: str,
    wanted: Sequence[str],
    unwanted: Sequence[str],
    what: str,
    is_whole: Callable[[Path], bool],
    progress: Progress | None,
) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = spec.partition("@")
    fetch = partial(snapshot_download, repo_id=name, revision=revision or None, allow_patterns=list(wanted))
    with _explained(name, revision, what):
        try:
            folder = Path(fetch(local_files_only=True))
            if is_whole(folder):
                return folder
        except LocalEntryNotFoundError:
            pass
        # Asked first, as this alone fails at once where there is no connection.
        asked = HfApi().model_info(name, revision=revision or None, timeout=_PATIENCE_SECONDS, files_metadata=True)
        found = asked.siblings or []
        bars = None if progress is None else _reporting(progress)
        skipped = [*unwanted, *_doubled([file.rfilename for file in found])]
        folder = Path(fetch(ignore_patterns=skipped, tqdm_class=bars))
        _verify(folder, found, name)
        return folder


@contextlib.contextmanager
def _explained(name: str, revision: str, what: str) -> Iterator[None]:
    """Say as one sentence whatever the hub's library raises."""
    from huggingface_hub.errors import (
        FileMetadataError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The hub's library has changed its HTTP client before; its own error derives from that of whichever it has.
    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GatedRepoError:
        raise ModelError(
            f"{name} is gated: accept its licence on its hub page, then log in with `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{name} has no revision {revision!r} on the hub; check it on the model's page") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"the hub has no public {what} {name}; check the name, or log in with `hf auth login` if it is private"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{name} is not a hub name: {first_line(error)}") from error
    except (HfHubHTTPError, FileMetadataError) as error:
        raise ModelError(f"the hub refused {name}: {first_line(error)}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, client_error, ConnectionError) as error:
        logger.info("the hub cannot be reached", exc_info=error)
        raise ModelError(
            f"{name} is not whole in the local cache and the hub cannot be reached; connect once to fetch it "
            "(what has arrived is kept)" + (", or use --model embedded" if what == "model" else "")
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(
                f"the disk is full: {name} does not fit; make room, or point HF_HOME to another disk"
            ) from error
        raise ModelError(f"{name} could not be fetched whole: {first_line(error)}; start again") from error


def _verify(folder: Path, files: Sequence[RepoSibling], name: str) -> None:
    """Compare what was fetched with the hub's SHA-256; what differs is thrown away. Raises ``ModelError``."""
    damaged = []
    for file in files:
        path = folder / file.rfilename
        expected = getattr(file.lfs, "sha256", None)
        if expected is None or not is_file(path):
            continue
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == expected:
                continue
        path.resolve().unlink(missing_ok=True)  # the cache keeps the content elsewhere and a link here
        path.unlink(missing_ok=True)
        damaged.append(file.rfilename)
    if damaged:
        raise ModelError(
            f"{name} was damaged on its way: {', '.join(damaged)} is not what the hub names (SHA-256); start again"
        )


def _is_whole_model(folder: Path) -> bool:
    """Whether the parts that the index names, and that a stream uses, are all there with their files."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(index, dict):
        return False
    named = {name for name, kind in index.items() if isinstance(kind, list) and kind[-1:] != [None]}
    weights = named & {"unet", "vae", "text_encoder", "text_encoder_2"}
    texts = named & {"tokenizer", "tokenizer_2"}
    return (
        all(_has_weights(folder / part) and is_file(folder / part / "config.json") for part in weights)
        and all(any((folder / part).glob("*.json")) for part in texts)
        and is_file(folder / "scheduler" / "scheduler_config.json")
    )


def _has_weights(folder: Path) -> bool:
    """Whether all files with the weights of a part are there; their content is looked at when they are read."""
    try:
        return bool(weight_files(folder))
    except ModelError:
        return False


def _doubled(files: list[str]) -> list[str]:
    """Weights that are stored in float16 as well, half the size: those are fetched instead."""
    weights = [file for file in files if file.endswith(".safetensors")]
    halves = {file.rpartition("/")[0] for file in weights if ".fp16" in file}
    return [file for file in weights if ".fp16" not in file and file.rpartition("/")[0] in halves]


def _reporting(progress: Progress) -> type:
    """A stand-in for the hub's progress bars that reports bytes instead of drawing."""
    from huggingface_hub.utils import tqdm

    most = [0, 0]

    class Reporting(tqdm):
        """Adds up the bytes of all files. The library keeps two such bars; the one that is ahead counts."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._counts_bytes = options.get("unit") == "B"
            super().__init__(*args, **{**options, "disable": True})
            self._so_far = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            """``n`` more bytes, or files."""
            if self._counts_bytes:
                self._so_far += int(n or 0)
                most[:] = max(most[0], self._so_far), max(most[1], int(self.total or 0))
                progress(*most)

    return Reporting
