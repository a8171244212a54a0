"""The audit log's use cases: read it, verify it, sign where it stands.

Called by the API, and by the loop, which signs each hour with news, each 1,000 rows, at each promotion and at the end.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit
from rlaas_ray.store.database import Database


class Records:
    """`anchor` keeps copies of checkpoints outside the database."""

    def __init__(self, *, database: Database, clock: Clock, signer: audit.Signer, anchor: audit.Anchor) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer
        self._anchor = anchor

    def page(self, *, before_seq: int | None, limit: int) -> list[dict[str, Any]]:
        """Rows, newest first, with their hashes."""
        with self._database.read() as tx:
            return audit.page(tx, before_seq=before_seq, limit=limit)

    def head(self) -> dict[str, Any]:
        """The newest checkpoint, to be written down elsewhere; `checkpoint` is null before the first."""
        with self._database.read() as tx:
            last, unsigned = audit.last_checkpoint(tx), audit.unsigned(tx)
        shown = None if last is None else {"body": last.body.decode(), "signature": last.signature}
        return {"checkpoint": shown, "unsigned": unsigned, "key": self._signer.public}

    def verify(self) -> dict[str, Any]:
        """All that can be checked; `ok` is false with the first fault and its seq."""
        with self._database.read() as tx:
            found = audit.verify(
                audit.rows(tx),
                checkpoints=audit.checkpoints(tx),
                anchor=self._anchor.last(),
                keys=frozenset([self._signer.public]),
            )
        return {"ok": found.ok, **asdict(found)}

    def sign(self, *, at_least: int = 1) -> bool:
        """A checkpoint where `at_least` rows came since the last; says whether one was made."""
        with self._database.read() as tx:
            if audit.unsigned(tx) < at_least:
                return False
        with self._database.write() as tx:
            made = audit.checkpoint(tx, self._signer, now_us=self._clock.now_us())
        if made is not None:
            self._anchor.append(made)
        return made is not None
