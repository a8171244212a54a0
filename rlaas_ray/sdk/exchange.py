"""What both faces of the client share: headers, bodies, errors rebuilt from problem documents, and server-sent events.

Called by the two clients and the reporter. Pure: it sends nothing.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from rlaas_ray.errors import BadJson, RlaasError, TimedOut, Unavailable, from_problem

API = "/api/v1"
RUN_PATHS = {"train": "training", "tune": "tuning", "optimize": "optimization", "evaluate": "evaluations"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a run's stream. `seq` counts from 1 in each run; `kind` is `end` for the last."""

    seq: int | None
    kind: str
    data: dict[str, Any]


def headers(api_key: str | None) -> dict[str, str]:
    """The headers of every request of a client."""
    found = {"Accept": "application/json", "User-Agent": "rlaas-sdk"}
    return {**found, "Authorization": f"Bearer {api_key}"} if api_key else found


def body(value: Any) -> bytes:
    """JSON bytes; arrays (anything with `tolist`) become lists, NaN and infinity are refused here and not by the server."""
    try:
        return orjson.dumps(_plain(value))
    except (TypeError, orjson.JSONEncodeError) as error:
        raise BadJson(
            "the request has no JSON form",
            given=str(error),
            expected="finite numbers, texts, lists, mappings, arrays",
            cure="Clean the values before they are sent: `numpy.isfinite(x).all()` finds NaN and infinity.",
        ) from None


def creating(key: str | None) -> dict[str, str]:
    """Headers of a request that creates work: sent twice, it creates once."""
    return {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex}


def answer(response: httpx.Response) -> Any:
    """The JSON of a good answer (None for an empty one); raises the error that a problem document states."""
    if response.is_success:
        return orjson.loads(response.content) if response.content else None
    raise error_of(response)


def error_of(response: httpx.Response) -> RlaasError:
    """The error that an answer states, with the class, the cure and the pointer that it had at the other end."""
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        problem = None
    if not isinstance(problem, dict) or "type" not in problem:
        text = response.text.strip()[:200]
        return Unavailable(
            f"{response.request.url} answered {response.status_code}, not as an RLaaS API does",
            given=text or None,
            cure="Is the address right? `rlaas status` shows what runs.",
        )
    error = from_problem(problem)
    faults = problem.get("errors") or [{}]
    error.pointer = faults[0].get("pointer")
    return error


def unreachable(error: httpx.HTTPError, *, url: str) -> RlaasError:
    """Our error for a request that got no answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return TimedOut(
            f"no answer from {url}", given=type(error).__name__, cure="Try again, or with a longer timeout_s."
        )
    return Unavailable(
        f"nothing answers at {url}",
        given=str(error) or type(error).__name__,
        cure="`rlaas up` starts a server; RLAAS_URL names another one.",
    )


def unsent(error: httpx.HTTPError) -> bool:
    """Whether the request cannot have reached the server, so that another address may be tried."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


class EventLines:
    """Turns the lines of a `text/event-stream` into events."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> Iterator[Event]:
        """The event that this line completes, if it does. Comments (pings) give nothing."""
        if line:
            name, _, value = line.partition(":")
            if name == "data" and "data" in self._fields:
                value = f"{self._fields['data']}\n{value.removeprefix(' ')}"
            if name:
                self._fields[name] = value.removeprefix(" ")
            return
        fields, self._fields = self._fields, {}
        if "data" in fields or "event" in fields:
            data = orjson.loads(fields["data"]) if fields.get("data") else {}
            seq = fields.get("id", "")
            yield Event(
                seq=int(seq) if seq.isdigit() else None,
                kind=fields.get("event", "message"),
                data=data if isinstance(data, dict) else {"value": data},
            )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError("NaN or infinity")
    if value is None or type(value) in {str, int, float, bool}:
        return value
    for plain in (str, int, float):  # numpy.float64 is a float and numpy.str_ a text, and orjson takes neither
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")
