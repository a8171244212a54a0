"""Rows of `endpoints` and the insert-only `route_tables`, whose epoch counts over the whole database.

Called by control. A table's change is `append` + the endpoint's compare-and-set in one transaction: it happens once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import Conflict, NotFound, nearest
from rlaas_ray.specs import document, routing
from rlaas_ray.specs.endpoint import EndpointSpec
from rlaas_ray.specs.routing import RouteTable
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import endpoints, route_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row: the document, and the epoch of the table that holds now."""

    name: str
    spec: EndpointSpec
    epoch: int
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Why a table changes. `reason`: user, rollout, rollback, breaker or estop; `words` are for people."""

    actor: str
    reason: str
    words: str
    time_us: int


def get(tx: Connection, name: str) -> Endpoint:
    """The endpoint. Raises NotFound with the nearest known name."""
    row = tx.execute(endpoints.select().where(endpoints.c.name == name, endpoints.c.deleted_us.is_(None))).one_or_none()
    if row is None:
        raise NotFound("no such endpoint", given=name, expected="a known endpoint", cure=nearest(name, names(tx)))
    return _from_row(row)


def find(tx: Connection, name: str) -> Endpoint | None:
    """The endpoint, or None."""
    row = tx.execute(endpoints.select().where(endpoints.c.name == name, endpoints.c.deleted_us.is_(None))).one_or_none()
    return None if row is None else _from_row(row)


def names(tx: Connection) -> list[str]:
    """All living endpoints, sorted."""
    query = sa.select(endpoints.c.name).where(endpoints.c.deleted_us.is_(None))
    return sorted(tx.execute(query).scalars())


def page(tx: Connection, *, after: tuple[int, str] | None, limit: int) -> list[Endpoint]:
    """Newest first, by (created_us, name) below `after`."""
    query = endpoints.select().where(endpoints.c.deleted_us.is_(None))
    query = query.order_by(endpoints.c.created_us.desc(), endpoints.c.name.desc()).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(endpoints.c.created_us, endpoints.c.name) < sa.tuple_(*map(sa.literal, after)))
    return [_from_row(row) for row in tx.execute(query)]


def pools(tx: Connection) -> list[str]:
    """Pools that living endpoints ask for, sorted."""
    query = sa.select(endpoints.c.pool).where(endpoints.c.deleted_us.is_(None)).distinct()
    return sorted(tx.execute(query).scalars())


def create(tx: Connection, spec: EndpointSpec, *, table: RouteTable, change: Change) -> RouteTable:
    """A new endpoint with its first table; a name that was deleted may be used again."""
    table = _append(tx, table, change=change)
    tx.execute(endpoints.delete().where(endpoints.c.name == spec.name, endpoints.c.deleted_us.is_not(None)))
    tx.execute(
        endpoints.insert().values(
            name=spec.name,
            spec_json=to_text(spec.to_json()),
            epoch=table.epoch,
            pool=spec.pool,
            created_us=change.time_us,
        )
    )
    return table


def change_table(
    tx: Connection, endpoint: Endpoint, *, table: RouteTable, change: Change, spec: EndpointSpec | None = None
) -> RouteTable:
    """The next table of an endpoint, once. Raises Conflict when somebody else changed the endpoint since it was read."""
    table = _append(tx, table, change=change)
    spec = spec or endpoint.spec
    result = tx.execute(
        endpoints.update()
        .where(endpoints.c.name == endpoint.name, endpoints.c.epoch == endpoint.epoch)
        .values(
            epoch=table.epoch,
            spec_json=to_text(spec.to_json()),
            pool=spec.pool,
            deleted_us=change.time_us if table.deleted else None,
        )
    )
    if result.rowcount != 1:
        raise Conflict(
            f"endpoint {endpoint.name!r} was changed by somebody else",
            expected=f"epoch {endpoint.epoch}",
            cure="Ask again.",
        )
    return table


def table_of(tx: Connection, endpoint: str, *, epoch: int) -> RouteTable:
    """The table of an endpoint at an epoch."""
    text = tx.execute(
        sa.select(route_tables.c.table_json).where(route_tables.c.endpoint == endpoint, route_tables.c.epoch == epoch)
    ).scalar_one()
    return routing.from_json(from_text(text))


def newest(tx: Connection, *, pool: str, after_epoch: int) -> list[RouteTable]:
    """Per endpoint of the pool, its newest table, where that lies beyond `after_epoch`; in order of epochs."""
    last = sa.select(sa.func.max(route_tables.c.epoch)).group_by(route_tables.c.endpoint)
    query = sa.select(route_tables.c.table_json).where(
        route_tables.c.epoch.in_(last), route_tables.c.pool == pool, route_tables.c.epoch > after_epoch
    )
    return [routing.from_json(from_text(text)) for text in tx.execute(query.order_by(route_tables.c.epoch)).scalars()]


def last_epoch(tx: Connection) -> int:
    """The greatest epoch of the database; 0 before the first table."""
    return int(tx.execute(sa.select(sa.func.max(route_tables.c.epoch))).scalar() or 0)


def history(tx: Connection, endpoint: str, *, after_epoch: int | None, limit: int) -> list[Mapping[str, Any]]:
    """The endpoint's tables, newest first, below `after_epoch`: who, why, when."""
    query = route_tables.select().where(route_tables.c.endpoint == endpoint)
    if after_epoch is not None:
        query = query.where(route_tables.c.epoch < after_epoch)
    return [
        {
            "epoch": row.epoch,
            "actor": row.actor,
            "reason": row.reason,
            "words": row.words,
            "time_us": row.time_us,
            "digest": row.digest,
            "table": from_text(row.table_json),
        }
        for row in tx.execute(query.order_by(route_tables.c.epoch.desc()).limit(limit))
    ]


def _append(tx: Connection, table: RouteTable, *, change: Change) -> RouteTable:
    table = replace(table, epoch=last_epoch(tx) + 1)
    tx.execute(
        route_tables.insert().values(
            endpoint=table.endpoint,
            epoch=table.epoch,
            pool=table.pool,
            table_json=table.canonical().decode(),
            digest=table.digest(),
            actor=change.actor,
            reason=change.reason,
            words=change.words,
            time_us=change.time_us,
        )
    )
    return table


def _from_row(row: Any) -> Endpoint:
    spec = document.parse(EndpointSpec, from_text(row.spec_json))
    return Endpoint(name=row.name, spec=spec, epoch=row.epoch, created_us=row.created_us)
