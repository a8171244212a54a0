"""Pages by key, newest first: a cursor says after which row to go on, and is signed, so that a made-up one is refused.

Used by every list. New rows never shift a page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import Query

from rlaas_ray.errors import BadJson

Limit = Annotated[int, Query(ge=1, le=200, description="how many items")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
_MARK = 8


def after(cursor: str | None, *, key: bytes) -> tuple[int, str] | None:
    """(created_us, id) of the last row of the page before. Raises BadJson for a cursor that is not ours."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    mark, text = raw[:_MARK], raw[_MARK:]
    if not hmac.compare_digest(mark, _mark(text, key=key)):
        raise BadJson(
            "not a cursor of ours", given=cursor, expected="`next_cursor` as it was given", pointer="/query/cursor"
        )
    time_us, row_id = orjson.loads(text)
    return int(time_us), str(row_id)


def page(
    items: Sequence[Mapping[str, Any]], *, limit: int, key: bytes, time: str = "created_us", name: str = "id"
) -> dict[str, Any]:
    """The body of a list; `items` may hold one more than `limit`, which says that there is a next page."""
    shown = list(items[:limit])
    cursor = None
    if len(items) > limit and shown:
        text = orjson.dumps([shown[-1][time], str(shown[-1][name])])
        cursor = base64.urlsafe_b64encode(_mark(text, key=key) + text).decode().rstrip("=")
    return {"items": shown, "next_cursor": cursor}


def _mark(text: bytes, *, key: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).digest()[:_MARK]
