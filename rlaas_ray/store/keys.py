"""API keys: 256-bit secrets of which only an HMAC is stored, with roles, an end, and sometimes a subject (one run, one pool).

Called by control. A secret is given back once, by `make`; it is never stored, logged or put into the outbox. ROLES are names
alone: what each may is in `api/roles.py` and `serve/keys.py`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import NotFound
from rlaas_ray.store import ids
from rlaas_ray.store.database import Connection
from rlaas_ray.store.tables import keys

ROLES = ("viewer", "decider", "operator", "approver", "admin", "pool", "run")
_FORM = re.compile(r"rlk_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One row. `subject` binds a `run` key to what it is for: `run:<id>` or `pool:<name>`."""

    id: str
    prefix: str
    hash: str
    roles: tuple[str, ...]
    subject: str | None
    note: str
    created_us: int
    expires_us: int | None
    revoked_us: int | None
    last_used_us: int | None

    def holds(self, now_us: int) -> bool:
        """Whether it may be used now."""
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)

    def to_json(self) -> dict[str, Any]:
        """For people: no hash."""
        names = ("id", "prefix", "subject", "note", "created_us", "expires_us", "revoked_us", "last_used_us")
        return {name: getattr(self, name) for name in names} | {"roles": list(self.roles)}


def make(
    tx: Connection,
    *,
    pepper: bytes,
    roles: tuple[str, ...],
    note: str,
    now_us: int,
    subject: str | None = None,
    expires_us: int | None = None,
) -> tuple[Key, str]:
    """A new key, and its secret: `rlk_<prefix>_<43 base64url>`."""
    prefix = ids.letters(8)
    tail = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    secret = f"rlk_{prefix}_{tail}"
    key_id = ids.new("key")
    tx.execute(
        keys.insert().values(
            id=key_id,
            prefix=prefix,
            hash=digest(tail, pepper=pepper),
            roles=" ".join(roles),
            subject=subject,
            note=note,
            created_us=now_us,
            expires_us=expires_us,
        )
    )
    return get(tx, key_id), secret


def digest(secret: str, *, pepper: bytes) -> str:
    """HMAC-SHA256(pepper, the last part of a key), hex: enough for 256 random bits. Pools compute the same."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def find(tx: Connection, secret: str, *, pepper: bytes) -> Key | None:
    """The key with this secret. Takes as long when there is none."""
    match = _FORM.fullmatch(secret)
    prefix, tail = match.groups() if match is not None else ("", "")
    row = tx.execute(keys.select().where(keys.c.prefix == prefix)).one_or_none()
    stored = row.hash if row is not None else "0" * 64
    same = hmac.compare_digest(stored, digest(tail, pepper=pepper))
    return _from_row(row) if same and row is not None else None


def get(tx: Connection, key_id: str) -> Key:
    """The key. Raises NotFound."""
    row = tx.execute(keys.select().where(keys.c.id == key_id)).one_or_none()
    if row is None:
        raise NotFound("no such key", given=key_id, cure="`rlaas keys list` shows them.")
    return _from_row(row)


def page(tx: Connection, *, after: tuple[int, str] | None, limit: int) -> list[Key]:
    """Newest first."""
    query = keys.select().order_by(keys.c.created_us.desc(), keys.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(keys.c.created_us, keys.c.id) < sa.tuple_(*map(sa.literal, after)))
    return [_from_row(row) for row in tx.execute(query)]


def living(tx: Connection, *, roles: tuple[str, ...], now_us: int) -> list[Key]:
    """Keys that hold now and have one of `roles`."""
    query = keys.select().where(keys.c.revoked_us.is_(None)).order_by(keys.c.id)
    found = [_from_row(row) for row in tx.execute(query)]
    return [key for key in found if key.holds(now_us) and set(roles) & set(key.roles)]


def any_admin(tx: Connection) -> bool:
    """Whether an admin's key was ever made."""
    return tx.execute(sa.select(keys.c.id).where(keys.c.roles.contains("admin")).limit(1)).first() is not None


def revoke(tx: Connection, key_id: str, *, now_us: int) -> Key:
    """End a key; doing it twice changes nothing."""
    get(tx, key_id)
    tx.execute(keys.update().where(keys.c.id == key_id, keys.c.revoked_us.is_(None)).values(revoked_us=now_us))
    return get(tx, key_id)


def revoke_subject(tx: Connection, subject: str, *, now_us: int) -> None:
    """End every key of a subject (its run ended, its pool is deployed again)."""
    tx.execute(keys.update().where(keys.c.subject == subject, keys.c.revoked_us.is_(None)).values(revoked_us=now_us))


def touch(tx: Connection, key_id: str, *, now_us: int) -> None:
    """Remember that it was used."""
    tx.execute(keys.update().where(keys.c.id == key_id).values(last_used_us=now_us))


def _from_row(row: Any) -> Key:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the row as a mapping
    return Key(**{**fields, "roles": tuple(fields["roles"].split())})
