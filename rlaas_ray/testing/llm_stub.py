"""A language model's endpoint on loopback that answers as badly as asked: for tests of whoever asks one.

`serve` starts it in a thread and ends it with its block; each case of `CASES` is a path below its address. Keeps the headers and
bodies that it was sent. Never thinks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROWS = [[2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [7, 8], [1, 2], [2, 4], [3, 5], [4, 6]]
HUGE = 300 * 1024


def _said(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


_CONTENT: dict[str, str] = {
    "good": json.dumps({"schemes": ROWS}),
    "bare": json.dumps(ROWS),
    "fenced": f"Here you are:\n```json\n{json.dumps(ROWS)}\n```\nGood luck.",
    "prose": "Set the first operator to 4 and the second one to 8, that should do.",
    "lengths": json.dumps({"schemes": [[1], [1, 2, 3], [], [4]]}),
    "whole_floats": json.dumps({"schemes": [[float(a), float(b)] for a, b in ROWS]}),
    "floats": json.dumps({"schemes": [[2.5, 3], [True, 2], ["4", 4]]}),
    "not_finite": '{"schemes": [[NaN, 1], [Infinity, 2], [1e999, 3]]}',
    "outside": json.dumps({"schemes": [[0, 99], [-5, 3], [100000, 2], [3, 3], [4, 4], [5, 5], [6, 6]]}),
    "nested": "[" * 5000,
}
_STATUS: dict[str, int] = {"401": 401, "403": 403, "429": 429, "429_soon": 429, "429_late": 429, "500": 500, "400": 400}
CASES = (*_CONTENT, *_STATUS, "redirect", "huge", "drip", "stall", "closed", "malformed", "mends")


class Stub:
    """`base_url(case)`; `seen` holds (path, headers, body) of every request."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.elsewhere = self.address  # where a redirect points
        self.over = threading.Event()

    def base_url(self, case: str) -> str:
        """The endpoint that answers so."""
        return f"{self.address}/{case}"


@contextmanager
def serve() -> Iterator[Stub]:
    """A stub on a free port of loopback, for as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    stub = Stub(server)
    server.RequestHandlerClass = _handler(stub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="llm-stub", daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.over.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            stub.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
            case = self.path.split("/")[1]
            try:
                _SPECIAL[case](self, stub) if case in _SPECIAL else _plain(self, case)
            except (BrokenPipeError, ConnectionResetError):
                return  # the client had enough

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
            return

    return Handler


Answer = Callable[[BaseHTTPRequestHandler, Stub], None]


def _send(handler: BaseHTTPRequestHandler, status: int, *, body: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _plain(handler: BaseHTTPRequestHandler, case: str) -> None:
    if case in _CONTENT:
        _send(handler, 200, body=_said(_CONTENT[case]))
        return
    wait = {"429_soon": "2", "429_late": "3600"}.get(case)
    _send(handler, _STATUS.get(case, 404), body=b"{}", headers={} if wait is None else {"Retry-After": wait})


def _redirect(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    _send(handler, 307, body=b"", headers={"Location": f"{stub.elsewhere}/good/chat/completions"})


def _huge(handler: BaseHTTPRequestHandler, _: Stub) -> None:
    _send(handler, 200, body=_said(json.dumps({"schemes": ROWS}) + " " * HUGE))


def _drip(handler: BaseHTTPRequestHandler, _: Stub) -> None:
    """Byte by byte, each in a packet of its own, to the end; a client with a clock gives up on the way."""
    body = _said(_CONTENT["good"])
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()


def _stall(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    """A header without an end, so slow that no single read is late."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not stub.over.wait(0.02):
        handler.wfile.write(b"a")
        handler.wfile.flush()


def _closed(handler: BaseHTTPRequestHandler, _: Stub) -> None:
    handler.close_connection = True
    handler.connection.close()


def _malformed(handler: BaseHTTPRequestHandler, _: Stub) -> None:
    _send(handler, 200, body=b'{"choices": []}')


def _mends(handler: BaseHTTPRequestHandler, stub: Stub) -> None:
    """Prose at first; once it was told what is wrong, rows."""
    told = any("valid rows" in str(message["content"]) for message in stub.seen[-1][2]["messages"])
    _send(handler, 200, body=_said(_CONTENT["good" if told else "prose"]))


_SPECIAL: dict[str, Answer] = {
    "redirect": _redirect,
    "huge": _huge,
    "drip": _drip,
    "stall": _stall,
    "closed": _closed,
    "malformed": _malformed,
    "mends": _mends,
}
