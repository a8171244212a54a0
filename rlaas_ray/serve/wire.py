"""Requests and answers without a transport, and how bodies are read and errors are told.

Shared by `answer.py`, its parts and the doors (`asgi.py`, `replica.py`). Knows no policy and no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from rlaas_ray.errors import BadJson, InvalidInput, MediaType, MethodNotAllowed, RlaasError, UnknownField, nearest

JSON = b"application/json"
PROBLEM = b"application/problem+json"
BODY_LIMIT = 1 << 20
BATCH_LIMIT = 8 << 20
ROWS_LIMIT = 1024
Header = tuple[bytes, bytes]


@dataclass(slots=True, kw_only=True)
class Request:
    """`path` without query, below the app's root; header names in lower case; `arrived_s` monotonic, at the last body byte."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    arrived_s: float
    local: bool
    request_id: bytes = b""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What a door sends. `unsynced`: the door first waits for the disk and, where that failed, sends `unsynced()` instead."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: list[Header] = field(default_factory=list)
    unsynced: Callable[[], Answer] | None = None


def text(value: str) -> bytes:
    """A header value: Latin-1 without line ends, whatever a name may hold."""
    return value.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")


def problem(error: RlaasError, *, request_id: bytes) -> Answer:
    """The RFC 9457 answer of an error."""
    document = {**error.to_problem(), "request_id": request_id.decode("latin-1")}
    headers: list[Header] = []
    if error.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(status=error.status, body=orjson.dumps(document), content_type=PROBLEM, headers=headers)


def method(request: Request, wanted: str) -> None:
    """Refuse another method; HEAD is a GET whose body the door keeps."""
    if request.method != wanted and not (wanted == "GET" and request.method == "HEAD"):
        raise MethodNotAllowed("method", given=request.method, expected=wanted)


def document(request: Request) -> dict[str, Any]:
    """The body as a JSON object. NaN and infinity are no JSON and are refused with everything else that is not."""
    kind = request.headers.get(b"content-type")
    if kind is not None and not kind.lower().startswith((b"application/json", b"application/x-www-form-urlencoded")):
        # curl says x-www-form-urlencoded unless told otherwise; refusing that teaches nobody anything.
        raise MediaType("body", given=kind.decode("latin-1"), expected="application/json")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise BadJson("body is not JSON", given=str(error), expected="one JSON object; numbers finite") from None
    if not isinstance(body, dict):
        raise BadJson("body", given=type(body).__name__, expected="one JSON object")
    return body


def known_only(body: Mapping[str, Any], *, known: frozenset[str], where: str = "") -> None:
    """Refuse keys that nobody reads, naming the nearest one that somebody does."""
    if body.keys() <= known:
        return
    name = next(key for key in body if key not in known)
    raise UnknownField(
        "unknown field",
        given=name,
        expected=f"one of {sorted(known)}",
        cure=nearest(name, sorted(known)),
        pointer=f"{where}/{name}",
    )


def string(body: Mapping[str, Any], name: str, *, where: str, longest: int = 256) -> str | None:
    """A non-empty string field, or None where it is missing or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        given = value if not isinstance(value, str) else f"{len(value)} characters"
        raise _wrong(name, given=given, expected=f"a string of 1 to {longest} characters", where=where)
    return value


def whole(body: Mapping[str, Any], name: str, *, where: str) -> int | None:
    """A non-negative 31-bit integer field, or None."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise _wrong(name, given=value, expected="an integer from 0 to 2147483647", where=where)
    return value


def number(body: Mapping[str, Any], name: str, *, where: str) -> float | None:
    """A finite number field, or None."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e300:
        raise _wrong(name, given=value, expected="a finite number", where=where)
    return float(value)


def truth(body: Mapping[str, Any], name: str, *, where: str) -> bool:
    """A boolean field; missing is false."""
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _wrong(name, given=value, expected="true or false", where=where)
    return value


def rows(body: dict[str, Any]) -> tuple[list[dict[str, Any]], bool]:
    """The items of a single or batched body, and whether it was a batch."""
    if "batch" not in body:
        return [body], False
    known_only(body, known=frozenset({"batch"}))
    batch = body["batch"]
    if not isinstance(batch, list) or not 0 < len(batch) <= ROWS_LIMIT:
        given = f"{len(batch)} items" if isinstance(batch, list) else batch
        raise _wrong("batch", given=given, expected=f"a list of 1 to {ROWS_LIMIT} objects", where="")
    for index, item in enumerate(batch):
        if not isinstance(item, dict):
            raise _wrong(str(index), given=item, expected="an object", where="/batch")
    return batch, True


def required(name: str, *, where: str) -> InvalidInput:
    """The error for a field that must be there."""
    return InvalidInput(f"field {name!r} is missing", expected="this field", pointer=f"{where}/{name}")


def _wrong(name: str, *, given: Any, expected: str, where: str) -> InvalidInput:
    return InvalidInput(f"field {name!r}", given=given, expected=expected, pointer=f"{where}/{name}")
