"""The command line: ``vitrail``, ``vitrail demo``, ``vitrail render``, ``vitrail bench`` and ``vitrail doctor``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from app.commands.logs import logging_to_file
from app.commands.misuse import Misuse
from app.commands.parser import parse
from app.commands.terminal import Messages, Results, console_on, say, settle_output, take_any_text
from app.signals import end_as_by_ctrl_c
from app.threads import wait_briefly
from pipeline.temporary import remove_temporary_files

logger = logging.getLogger(__name__)

DONE, FAILED, MISUSED = 0, 1, 2
_BY_SIGNAL = 128  # and the number of the signal, as shells have it

# Threads of Python take turns of so many seconds, a tenth of what is usual. The one that makes the picture calls
# libraries a hundred times a frame, and after each call waits for the end of another's turn, such as that of one which
# traces a network.
_TURN_SECONDS = 0.0005

_WITHOUT_WINDOW = "`vitrail demo` and `vitrail render` work without a window"
# X11, Wayland, or a Qt platform that was chosen by hand.
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vitrail`` with these arguments (by default the process's own).

    Returns:
        The exit code: 0 done, 1 something unforeseen (the log has the traceback), 2 misuse, 130 interrupted by Ctrl-C,
        143 or 129 ended by SIGTERM or SIGHUP.
    """
    if argv is not None:
        return _carried_out(argv)
    sys.setswitchinterval(_TURN_SECONDS)
    wait_briefly()
    take_any_text()
    end_as_by_ctrl_c()
    try:
        code = _carried_out(sys.argv[1:])
    finally:
        settle_output()
    if _left_behind():
        # A thread is stuck in a driver or in a long call of the model. Python would take the interpreter down around
        # it, which native code does not survive; all files are finished, so leave at once.
        logging.shutdown()
        remove_temporary_files()
        os._exit(code)
    return code


def _carried_out(argv: Sequence[str]) -> int:
    with logging_to_file() as log:
        try:
            code = _run(argv)
        except Misuse as error:
            code = _complain(str(error), MISUSED)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            code = _complain(str(error) or "interrupted", _BY_SIGNAL + number)
        except Exception as error:
            logger.critical("unforeseen", exc_info=error)
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            code = _complain(f"something unforeseen happened ({what}); the details are in {log}", FAILED)
    return code


def _run(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    if arguments.command is None:
        return _open_app(arguments.source)
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")  # their remarks on a model's files are not for its user
    if arguments.command == "doctor":
        from app.doctor import run as doctor

        return doctor(console_on(Results()))
    console = console_on(Messages())
    if arguments.command == "demo":
        from app.commands.demo import run as demo

        return demo(arguments, console)
    if arguments.command == "bench":
        from app.commands.bench import run as bench

        return bench(arguments, console)
    from app.commands.render import run as render

    return render(arguments, console)


def _open_app(source: str | None) -> int:
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAYS):
        raise Misuse(f"there is no display to open a window on; {_WITHOUT_WINDOW}")
    try:
        from ui.main import run
    except ImportError as error:
        logger.error("the window cannot be loaded", exc_info=error)
        raise Misuse(f"the window cannot be loaded ({error}); {_WITHOUT_WINDOW}") from error
    from app.settings import default_path
    from app.settings_file import load

    chosen, notes = load(default_path())
    for note in notes:
        say(note)
    return run(chosen, source, notes)


def _complain(message: str, code: int) -> int:
    say(message)
    return code


def _left_behind() -> bool:
    return any(thread.name.startswith("vitrail-") for thread in threading.enumerate())


if __name__ == "__main__":
    sys.exit(main())
