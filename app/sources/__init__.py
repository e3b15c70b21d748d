"""Where frames come from: one file per kind, all behind the ``Source`` protocol in ``base.py``."""

from app.sources.base import Source, SourceError, SourceStalled
from app.sources.spec import open_source

__all__ = ["Source", "SourceError", "SourceStalled", "open_source"]
