"""Log lines of the API process: text for people or one JSON object a line, with the request's id. Never bodies or keys.

Called once by wiring, in the process that is the API.
"""

from __future__ import annotations

import datetime as dt
import logging

import orjson

from rlaas_ray.api import context


class JsonLines(logging.Formatter):
    """time, level, logger, message and what the request's context knows."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        when = dt.datetime.fromtimestamp(record.created, tz=dt.UTC).isoformat(timespec="milliseconds")
        body = {"time": when, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        body |= context.current.get() or {}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(body).decode()


def configure(form: str) -> None:
    """Log to stderr in `form` (text or json), from INFO on for our own loggers."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else plain)
    ours = logging.getLogger("rlaas_ray")
    ours.handlers[:] = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
