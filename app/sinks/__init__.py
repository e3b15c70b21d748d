"""Where styled frames go: one file per kind, all behind the ``Sink`` protocol in ``base.py``."""

from app.sinks.base import Sink, SinkError
from app.sinks.callback import CallbackSink
from app.sinks.images import ImageFolderSink, ImageSink
from app.sinks.video import VideoSink

__all__ = ["CallbackSink", "ImageFolderSink", "ImageSink", "Sink", "SinkError", "VideoSink"]
