"""API keys: who is asking, with which roles; made and revoked by an admin, and by the loop for runs and pools.

Called by the API's key middleware on each request, so a look-up is kept for 10 s: a revocation holds within that time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from rlaas_ray.control.actor import Actor
from rlaas_ray.errors import InvalidInput, Unauthorized, nearest
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit, keys
from rlaas_ray.store.database import Database

_KEPT_S = 10.0
_MOST = 4096


class Keyring:
    """`pepper` is the server's half of every stored hash."""

    def __init__(self, *, database: Database, clock: Clock, pepper: bytes, changed: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._changed = changed
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[keys.Key, float]] = {}

    def who(self, secret: str, *, request_id: str | None = None) -> Actor:
        """The actor of a secret. Raises Unauthorized."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            known = self._seen.get(secret)
        fresh = known is not None and now_s - known[1] < _KEPT_S
        key = known[0] if known is not None and fresh else self._looked_up(secret, now_s=now_s)
        if not key.holds(self._clock.now_us()):
            raise _unknown()
        return Actor(id=f"key:{key.id}", roles=frozenset(key.roles), subject=key.subject, request_id=request_id)

    def make(self, *, roles: Sequence[str], note: str, expires_s: float | None, actor: Actor) -> dict[str, Any]:
        """A new key for a person or a program; the secret is in this answer only."""
        for role in roles:
            known = [name for name in keys.ROLES if name != "run"]  # those are made for an attempt, never by hand
            if role not in known:
                raise InvalidInput(
                    "no such role", given=role, expected=", ".join(known), cure=nearest(role, known), pointer="/roles"
                )
        now_us = self._clock.now_us()
        expires_us = None if expires_s is None else now_us + round(expires_s * 1e6)
        with self._database.write() as tx:
            key, secret = keys.make(
                tx, pepper=self._pepper, roles=tuple(roles), note=note, now_us=now_us, expires_us=expires_us
            )
            entry = audit.Entry(
                actor=actor.id,
                action="keys.create",
                object=key.id,
                request_id=actor.request_id,
                detail={"roles": list(roles)},
            )
            audit.append(tx, entry, now_us=now_us)
        self._changed()
        return {**key.to_json(), "secret": secret}

    def page(self, *, after: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """Keys without secrets, newest first."""
        with self._database.read() as tx:
            return [key.to_json() for key in keys.page(tx, after=after, limit=limit)]

    def revoke(self, key_id: str, *, actor: Actor) -> None:
        """End a key."""
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            keys.revoke(tx, key_id, now_us=now_us)
            entry = audit.Entry(actor=actor.id, action="keys.revoke", object=key_id, request_id=actor.request_id)
            audit.append(tx, entry, now_us=now_us)
        with self._lock:
            self._seen.clear()
        self._changed()

    def for_run(self, run_id: str, *, attempt: int) -> str:
        """The secret of a fresh key for one attempt; it ends with the run."""
        return self._bound(f"run:{run_id}", role="run", note=f"attempt {attempt} of {run_id}")

    def for_pool(self, pool: str) -> str:
        """The secret of a fresh key for a pool's deployment; earlier ones end with their processes, not before."""
        return self._bound(f"pool:{pool}", role="pool", note=f"routes of pool {pool}")

    def first(self, keep: Callable[[str], None]) -> bool:
        """Make an admin key where there is none; `keep` writes its secret down before the key counts. Whether one was made."""
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            if keys.any_admin(tx):
                return False
            key, secret = keys.make(
                tx, pepper=self._pepper, roles=("admin",), note="made at first start", now_us=now_us
            )
            entry = audit.Entry(actor="controller", action="keys.create", object=key.id, detail={"roles": ["admin"]})
            audit.append(tx, entry, now_us=now_us)
            keep(secret)
        return True

    def _bound(self, subject: str, *, role: str, note: str) -> str:
        with self._database.write() as tx:
            _, secret = keys.make(
                tx, pepper=self._pepper, roles=(role,), note=note, now_us=self._clock.now_us(), subject=subject
            )
        return secret

    def _looked_up(self, secret: str, *, now_s: float) -> keys.Key:
        with self._database.read() as tx:
            key = keys.find(tx, secret, pepper=self._pepper)
        if key is None:
            raise _unknown()
        now_us = self._clock.now_us()
        if key.last_used_us is None or now_us - key.last_used_us > 60_000_000:
            with self._database.write() as tx:
                keys.touch(tx, key.id, now_us=now_us)
        with self._lock:
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[secret] = (key, now_s)
        return key


def _unknown() -> Unauthorized:
    return Unauthorized(
        "no valid API key",
        expected="`Authorization: Bearer rlk_...`",
        cure="On the server's machine the first key is in $RLAAS_HOME/admin-key; `rlaas keys create` makes others.",
    )
