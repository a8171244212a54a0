"""Idempotency-Key: the answer of a request that made something, kept in the transaction that made it.

Called by control's creating use cases through `once`. Since the answer is stored with the work, there is no moment in which
the work exists and its answer does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import IdempotencyMismatch
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import idempotency


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """What makes two requests the same: the caller, the route, the key; `digest` is over the body."""

    key_id: str
    method: str
    path: str
    idem_key: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a creating use case gives: the document, where it lives, and whether it is a stored answer."""

    document: Mapping[str, Any]
    location: str
    status: int = 202
    replayed: bool = False


def once(tx: Connection, claim: Once | None, *, now_us: int, make: Callable[[], Made]) -> Made:
    """`make()`, or the answer that the same request had before. Raises IdempotencyMismatch for another body."""
    if claim is None:
        return make()
    row = tx.execute(idempotency.select().where(*_is(claim))).one_or_none()
    if row is not None:
        if row.request_digest != claim.digest:
            raise IdempotencyMismatch(
                "this Idempotency-Key was used with another body",
                given=claim.idem_key,
                expected="the same body, or a fresh key",
                cure="Send a new Idempotency-Key.",
            )
        return Made(document=from_text(row.body), location=row.location, status=row.status, replayed=True)
    made = make()
    tx.execute(
        idempotency.insert().values(
            key_id=claim.key_id,
            method=claim.method,
            path=claim.path,
            idem_key=claim.idem_key,
            request_digest=claim.digest,
            status=made.status,
            body=to_text(dict(made.document)),
            location=made.location,
            created_us=now_us,
        )
    )
    return made


def forget(tx: Connection, *, before_us: int, limit: int) -> int:
    """Retention: answers older than a day."""
    rows = tx.execute(idempotency.select().where(idempotency.c.created_us < before_us).limit(limit)).all()
    for row in rows:
        same = Once(key_id=row.key_id, method=row.method, path=row.path, idem_key=row.idem_key, digest="")
        tx.execute(idempotency.delete().where(*_is(same)))
    return len(rows)


def _is(claim: Once) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        idempotency.c.key_id == claim.key_id,
        idempotency.c.method == claim.method,
        idempotency.c.path == claim.path,
        idempotency.c.idem_key == claim.idem_key,
    )
