"""Where styled frames go: one file per kind, all behind the ``Sink`` protocol in ``base.py``."""

from app.sinks.background import BackgroundSink
from app.sinks.base import Sink, SinkError
from app.sinks.callback import CallbackSink
from app.sinks.images import ImageFolderSink, ImageSink
from app.sinks.recorder import Recorder
from app.sinks.video import VideoSink
from app.sinks.virtual_camera import VirtualCameraSink, virtual_camera

__all__ = [
    "BackgroundSink",
    "CallbackSink",
    "ImageFolderSink",
    "ImageSink",
    "Recorder",
    "Sink",
    "SinkError",
    "VideoSink",
    "VirtualCameraSink",
    "virtual_camera",
]
