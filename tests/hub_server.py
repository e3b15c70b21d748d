"""A stand-in for the hub on loopback: a few repositories from local folders, and every way of failing."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34
# Files above this are "large": they carry their SHA-256, as on the hub.
LARGE = 20_000


class HubServer:
    """Serves ``repositories`` (name to folder) as the hub does, as far as its client asks.

    Attributes:
        url: of the endpoint.
        fail: name to (status, error code) of repositories that are refused.
        spoil: called with (path, bytes) of a large file; gives what is sent instead.
        cut_after: bytes after which the connection of a large file breaks, or None.
        requests: (method, path, range) of every request, in order.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.fail: dict[str, tuple[int, str]] = {}
        self.spoil: Callable[[str, bytes], bytes] = lambda _, content: content
        self.cut_after: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def files_asked_for(self) -> list[str]:
        """Paths whose content was asked for."""
        return [
            path.rpartition(f"/{COMMIT}/")[2]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = unquote(urlparse(request.path).path)
        self.requests.append((request.command, path, request.headers.get("Range")))
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if api else parts[:2])
        folder = self.repositories.get(name)
        if name in self.fail or folder is None:
            status, code = self.fail.get(name, (404, "RepoNotFound"))
            _send(request, status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})
        elif api and parts[4:5] == ["revision"] and parts[5] not in ("main", "v1", COMMIT):
            _send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "RevisionNotFound"})
        elif api and parts[4:5] == ["tree"]:
            _send_json(request, [_entry(folder, file) for file in _files(folder)])
        elif api:
            siblings = [{"rfilename": entry["path"], **entry} for entry in (_entry(folder, f) for f in _files(folder))]
            _send_json(request, {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False})
        else:
            self._send_file(request, folder, "/".join(parts[4:]))

    def _send_file(self, request: BaseHTTPRequestHandler, folder: Path, name: str) -> None:
        if not (folder / name).is_file():
            _send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = (folder / name).read_bytes()
        etag = hashlib.sha256(content).hexdigest() if len(content) > LARGE else hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if len(content) > LARGE:
            content = self.spoil(name, content)
        first = int((request.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        whole = content[first:]
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        cut = self.cut_after if len(content) > LARGE and request.command == "GET" else None
        _send(request, 206 if first else 200, whole, headers, cut)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, name: str) -> dict[str, object]:
    content = (folder / name).read_bytes()
    entry: dict[str, object] = {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }
    if len(content) > LARGE:
        sha = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha, "sha256": sha, "size": len(content), "pointerSize": 130}
    return entry


def _send_json(request: BaseHTTPRequestHandler, content: object) -> None:
    _send(request, 200, json.dumps(content).encode(), {"Content-Type": "application/json"})


def _send(
    request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str], cut: int | None = None
) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(content if cut is None else content[:cut])
        if cut is not None and cut < len(content):
            request.wfile.flush()
            request.close_connection = True
