"""Versions and aliases: what a name means. Numbers are given in the registering transaction; a digest registers once per name.

Called by control. MLflow never decides anything here; it is told afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import Conflict, NotFound, nearest
from rlaas_ray.specs.policy import PolicyRef
from rlaas_ray.specs.runs import Version
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import aliases, versions


def register(
    tx: Connection,
    *,
    name: str,
    digest: str,
    uri: str,
    env: str,
    now_us: int,
    run_id: str | None,
    evaluation: Mapping[str, Any] | None,
) -> tuple[Version, bool]:
    """The version, and whether it is new. The same digest under the same name gives the number that it has (and lives again)."""
    same = (versions.c.name == name, versions.c.digest == digest)
    known = tx.execute(versions.select().where(*same)).one_or_none()
    if known is not None:
        tx.execute(versions.update().where(*same).values(deleted_us=None, uri=uri))
        return get(tx, name, number=known.number), False
    last = tx.execute(sa.select(sa.func.max(versions.c.number)).where(versions.c.name == name)).scalar() or 0
    tx.execute(
        versions.insert().values(
            name=name,
            number=last + 1,
            digest=digest,
            uri=uri,
            env=env,
            run_id=run_id,
            evaluation_json=None if evaluation is None else to_text(dict(evaluation)),
            created_us=now_us,
        )
    )
    return get(tx, name, number=last + 1), True


def get(tx: Connection, name: str, *, number: int) -> Version:
    """One version. Raises NotFound, naming the numbers that exist."""
    found = of_name(tx, name)
    for version in found:
        if version.number == number:
            return version
    raise NotFound(
        f"{name!r} has no version {number}",
        given=f"{name}:{number}",
        expected="one of " + ", ".join(str(v.number) for v in found[:12]),
        cure=f"`rlaas models show {name}` lists them.",
    )


def of_name(tx: Connection, name: str) -> list[Version]:
    """All versions of a name, newest first. Raises NotFound with the nearest known name."""
    query = versions.select().where(versions.c.name == name, versions.c.deleted_us.is_(None))
    rows = tx.execute(query.order_by(versions.c.number.desc())).all()
    if not rows:
        raise NotFound("no such model", given=name, expected="a registered name", cure=nearest(name, names(tx)))
    labels: dict[int, list[str]] = {}
    for row in tx.execute(aliases.select().where(aliases.c.name == name).order_by(aliases.c.alias)):
        labels.setdefault(row.number, []).append(row.alias)
    return [_from_row(row, labels.get(row.number, [])) for row in rows]


def resolve(tx: Connection, ref: PolicyRef) -> Version:
    """The version that NAME, NAME:N or NAME@ALIAS means now. Raises NotFound."""
    if ref.number is not None:
        return get(tx, ref.name, number=ref.number)
    if ref.alias is None:
        return of_name(tx, ref.name)[0]
    found = of_name(tx, ref.name)
    for version in found:
        if ref.alias in version.aliases:
            return version
    known = sorted({alias for version in found for alias in version.aliases})
    raise NotFound(f"{ref.name!r} has no alias {ref.alias!r}", given=str(ref), cure=nearest(ref.alias, known))


def set_alias(tx: Connection, name: str, *, alias: str, number: int) -> Version:
    """Point `alias` at a version that exists; gives the version as it is now."""
    get(tx, name, number=number)
    same = (aliases.c.name == name, aliases.c.alias == alias)
    epoch = tx.execute(sa.select(aliases.c.epoch).where(*same)).scalar()
    if epoch is None:
        tx.execute(aliases.insert().values(name=name, alias=alias, number=number, epoch=1))
    else:
        tx.execute(aliases.update().where(*same).values(number=number, epoch=epoch + 1))
    return get(tx, name, number=number)


def delete(tx: Connection, name: str, *, number: int, now_us: int) -> Version:
    """Mark a version deleted (its number is never given again). Raises Conflict while an alias names it."""
    version = get(tx, name, number=number)
    if version.aliases:
        raise Conflict(
            f"{version.ref} is named by an alias",
            given=list(version.aliases),
            expected="no alias",
            cure=f"Point the alias elsewhere first: `rlaas models alias {name} ALIAS NUMBER`.",
        )
    tx.execute(versions.update().where(versions.c.name == name, versions.c.number == number).values(deleted_us=now_us))
    return version


def names(tx: Connection) -> list[str]:
    """All names with a living version, sorted."""
    query = sa.select(versions.c.name).where(versions.c.deleted_us.is_(None)).distinct()
    return sorted(tx.execute(query).scalars())


def env_of(tx: Connection, digest: str) -> str | None:
    """The env that a bundle was made for."""
    return tx.execute(sa.select(versions.c.env).where(versions.c.digest == digest).limit(1)).scalar()


def uris(tx: Connection, digests: Sequence[str]) -> dict[str, str]:
    """Digest -> where the bundle lies; a deleted version's bundle is still found (a table may name it)."""
    query = sa.select(versions.c.digest, versions.c.uri).where(versions.c.digest.in_(digests))
    return {digest: str(uri) for digest, uri in tx.execute(query)}


def _from_row(row: Any, labels: Sequence[str]) -> Version:
    return Version(
        name=row.name,
        number=row.number,
        digest=row.digest,
        aliases=tuple(labels),
        path=row.uri,
        created_us=row.created_us,
        run_id=row.run_id,
        evaluation=from_text(row.evaluation_json),
    )
