"""Models from the Hugging Face hub: from its cache where they are there, downloaded where they are not."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.models.model import ModelError

# Configurations, vocabularies and safetensors. Pickles are never fetched, and neither is code.
_WANTED = ["*.json", "*/*.json", "*/*.txt", "*/*.safetensors"]
# Weights of parts that a stream does not use.
_UNWANTED = ["safety_checker/*", "image_encoder/*", "feature_extractor/*", "*/*.fp32.safetensors"]


def looks_like_hub_id(spec: str) -> bool:
    """Whether ``spec`` has the form ``owner/name``."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", spec) is not None and not spec.startswith((".", "/", "~"))


def download(name: str) -> Path:
    """The local folder of hub model ``name``, complete; without a connection, whatever the cache holds.

    Raises:
        ModelError: unknown, gated or private model; no connection and not in the cache; disk full.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    # The hub's library has changed its HTTP client before; its own error derives from that of whichever it has.
    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, ignore_patterns=_UNWANTED))
    except GatedRepoError:
        raise ModelError(
            f"{name} is gated: accept its licence on its hub page, then log in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"the hub has no public model {name}; check the name, or log in if it is private") from None
    except HfHubHTTPError as error:
        raise ModelError(f"the hub refused {name}: {error}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, client_error):
        raise ModelError(
            f"{name} is not in the local cache and the hub cannot be reached; "
            "connect once to fetch it, or use --model embedded"
        ) from None
    except OSError as error:
        raise ModelError(f"{name} could not be stored in the cache: {error}") from error
