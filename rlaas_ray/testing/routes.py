"""`GET /internal/routes` in a thread: what replicas ask the control API, answered from memory.

For tests and benchmarks of the data plane. Long-polls as the real one does; can be told to be away.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

from rlaas_ray.specs.routing import RouteTable

POLL_S = 25.0


class RoutesServer:
    """`url` is what a data plane takes as its API. `polls` lists the queries that came; `away` True answers 503."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tables: dict[str, RouteTable] = {}
        self._bundles: dict[str, str] = {}
        self._ending = False
        self.keys: list[Mapping[str, Any]] = []
        self.pepper_path: str | None = None
        self.away = False
        self.polls: list[dict[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                status, body = outer.answer(query)
                data = b"" if body is None else json.dumps(body).encode()
                with contextlib.suppress(ConnectionError):  # a data plane that ended hears no answer
                    self.send_response(status)
                    self.send_header("content-type", "application/json")
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the standard library's own name)
                return

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, table: RouteTable, *, bundles: Mapping[str, str] | None = None) -> None:
        """A new table, told at once to whoever polls."""
        with self._changed:
            self._tables[table.endpoint] = table
            self._bundles.update(bundles or {})
            self._changed.notify_all()

    def answer(self, query: Mapping[str, str]) -> tuple[int, dict[str, Any] | None]:
        """Status and body of one poll; waits as long as there is no news."""
        after = int(query.get("after_epoch", 0))
        with self._changed:
            self.polls.append(dict(query))
            if self.away:
                return 503, None
            self._changed.wait_for(lambda: self._ending or after < 0 or bool(self._news(after)), POLL_S)
            tables = self._news(after)
            if not tables and after >= 0:
                return 204, None
            return 200, {
                "epoch": max((table.epoch for table in tables), default=after),
                "tables": [table.to_json() for table in tables],
                "bundles": self._bundles,
                "keys": self.keys,
                "pepper_path": self.pepper_path,
            }

    def stop(self) -> None:
        """End; polls that wait are answered."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _news(self, after: int) -> list[RouteTable]:
        return [table for table in self._tables.values() if table.epoch > after]


class _QuietServer(http.server.ThreadingHTTPServer):
    """Data planes under test are killed in the middle of a poll; that is no error here."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        return
