"""Leases: who may act alone for a while, with a fence that rises each time the holder changes.

Called by the controller loop. A holder that lost its lease without noticing is stopped by `check` inside its own transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from rlaas_ray.errors import LostLease
from rlaas_ray.store.database import Connection
from rlaas_ray.store.tables import leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A held lease."""

    name: str
    owner: str
    until_us: int
    fence: int


def take(
    tx: Connection, name: str, *, owner: str, now_us: int, for_s: float, dead: Callable[[str], bool]
) -> Lease | None:
    """The lease, taken or renewed; None while a living owner holds it. `dead(owner)`: surely gone, on this host."""
    until_us = now_us + round(for_s * 1e6)
    row = tx.execute(leases.select().where(leases.c.name == name)).one_or_none()
    if row is None:
        tx.execute(leases.insert().values(name=name, owner=owner, until_us=until_us, fence=1))
        return Lease(name=name, owner=owner, until_us=until_us, fence=1)
    if row.owner != owner and row.until_us >= now_us and not dead(row.owner):
        return None
    fence = row.fence if row.owner == owner else row.fence + 1
    tx.execute(
        sa.update(leases)
        .where(leases.c.name == name, leases.c.fence == row.fence)
        .values(owner=owner, until_us=until_us, fence=fence)
    )
    return Lease(name=name, owner=owner, until_us=until_us, fence=fence)


def check(tx: Connection, lease: Lease) -> None:
    """Raises LostLease unless `lease` is still the current one; the row is read in the acting transaction."""
    fence = tx.execute(sa.select(leases.c.fence).where(leases.c.name == lease.name)).scalar()
    if fence != lease.fence:
        raise LostLease(f"lease {lease.name!r} was taken over", given=lease.fence, expected=f"fence {fence}")


def release(tx: Connection, lease: Lease) -> None:
    """Give it up at once, so that a successor need not wait."""
    tx.execute(sa.update(leases).where(leases.c.name == lease.name, leases.c.fence == lease.fence).values(until_us=0))
