"""Runs Vitrail while every use of the network is noted: ``python -m tests.faults.network_guard REPORT COMMAND ...``

Two witnesses: Python's own audit events, of every socket that is connected, bound, listened on or looked up a name for;
and the system's list of this process's connections and open ports, every few milliseconds, which native code cannot
pass by.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path

import psutil

_EVENTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")


def main() -> int:
    """Run the rest of the command line as ``vitrail`` would; write what was seen."""
    report = Path(sys.argv[1])
    seen: list[str] = []
    ended = threading.Event()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _EVENTS and not _of_this_machine(arguments):
            seen.append(f"{event} {arguments!r}")

    def watch() -> None:
        process = psutil.Process()
        while not ended.wait(0.05):
            for one in (process, *process.children(recursive=True)):
                try:
                    found = one.net_connections(kind="inet")
                except psutil.Error:
                    continue
                seen.extend(f"{one.name()}: {connection}" for connection in found if _is_open(connection))

    sys.addaudithook(hook)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    from app.cli import main as vitrail

    code = vitrail(sys.argv[2:])
    ended.set()
    watcher.join()
    report.write_text(json.dumps(sorted(set(seen))), encoding="utf-8")
    return code


def _is_open(connection: object) -> bool:
    """Whether it goes somewhere, or waits for somebody; a socket that is bound alone does neither."""
    return bool(getattr(connection, "raddr", None)) or getattr(connection, "status", "") == psutil.CONN_LISTEN


def _of_this_machine(arguments: tuple[object, ...]) -> bool:
    """Whether it is a socket of Unix's, which is a file, or a library's test for IPv6, which binds to itself."""
    where = next((one for one in arguments if isinstance(one, (tuple, str, bytes))), None)
    is_socket = bool(arguments) and isinstance(arguments[0], socket.socket)
    if is_socket and getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", None):
        return True
    return is_socket and where in (("::1", 0), ("127.0.0.1", 0))


if __name__ == "__main__":
    sys.exit(main())
