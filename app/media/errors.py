"""What PyAV may raise where it meets a damaged, odd or vanishing file, and the reason in a few words."""

from __future__ import annotations

import errno

from av.error import FFmpegError


class MediaError(Exception):
    """A file cannot be read. The message is one sentence for the user: what, why, what to do."""


# FFmpeg's own errors, and those of PyAV's checks: a layout that changed (ValueError), a codec without a decoder
# (RuntimeError), a number that does not fit (OverflowError), a picture that does not (MemoryError).
MEDIA_ERRORS = (FFmpegError, OSError, ArithmeticError, MemoryError, RuntimeError, ValueError)


def reason(error: BaseException) -> str:
    """Why it failed, in lower case and without a full stop, as the end of a sentence."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    said = error.strerror if isinstance(error, (FFmpegError, OSError)) else None
    text = (said or str(error) or type(error).__name__).strip().rstrip(".")
    return text[:1].lower() + text[1:]
