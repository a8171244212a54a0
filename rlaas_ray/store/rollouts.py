"""Rows of `rollouts` and of `rollout_evidence`: where a rollout stands, and the cuts that its judge has seen.

Called by control. A move is one compare-and-set on the row's epoch; the evidence rows are enough to reach each verdict again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import Conflict, NotFound
from rlaas_ray.specs import document
from rlaas_ray.specs.log import Cut
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import OPEN_ROLLOUT, rollout_evidence, rollouts

# shadow -> ramping <-> holding -> promoted; from any open state rolled_back (evidence), aborted (a person), inconclusive (time)
_ENDS = frozenset({"rolled_back", "aborted", "inconclusive"})
MOVES: dict[str, frozenset[str]] = {
    "shadow": frozenset({"ramping"}) | _ENDS,
    "ramping": frozenset({"ramping", "holding", "promoted"}) | _ENDS,
    "holding": frozenset({"ramping", "promoted"}) | _ENDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One row. Arms are named as route tables name them: `NAME:NUMBER` and digest.

    `first_epoch`: of the first table in which the challenger has a share; 0 before (shadow).
    """

    id: str
    endpoint: str
    spec: RolloutSpec
    challenger: str
    challenger_digest: str
    champion: str
    champion_digest: str
    first_epoch: int
    state: str
    stage: int
    epoch: int
    started_us: int
    stage_started_us: int
    ended_us: int | None = None
    verdict: dict[str, Any] | None = None

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_ROLLOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRow:
    """One tick with news: the log up to `cut`, judged at `status`, gave `statistics` and `verdict`."""

    seq: int
    time_us: int
    cut: Cut
    status: dict[str, Any]
    statistics: dict[str, Any]
    verdict: dict[str, Any]
    digest: str


def insert(tx: Connection, rollout: Rollout) -> None:
    """A new rollout. Raises Conflict when the endpoint has an open one (a unique index holds it too)."""
    other = open_of(tx, rollout.endpoint)
    if other is not None:
        raise Conflict(
            f"endpoint {rollout.endpoint!r} has an open rollout",
            given=rollout.id,
            expected=f"{other.id} to end first",
            cure=f"`rlaas rollout promote {rollout.endpoint}` or `rlaas rollout abort {rollout.endpoint}`.",
        )
    tx.execute(
        rollouts.insert().values(
            id=rollout.id,
            endpoint=rollout.endpoint,
            spec_json=to_text(rollout.spec.to_json()),
            spec_digest=rollout.spec.digest(),
            challenger=rollout.challenger,
            challenger_digest=rollout.challenger_digest,
            champion=rollout.champion,
            champion_digest=rollout.champion_digest,
            first_epoch=rollout.first_epoch,
            state=rollout.state,
            stage=rollout.stage,
            epoch=rollout.epoch,
            started_us=rollout.started_us,
            stage_started_us=rollout.stage_started_us,
        )
    )


def get(tx: Connection, rollout_id: str, *, endpoint: str | None = None) -> Rollout:
    """The rollout (of that endpoint). Raises NotFound."""
    row = tx.execute(rollouts.select().where(rollouts.c.id == rollout_id)).one_or_none()
    if row is None or (endpoint is not None and row.endpoint != endpoint):
        raise NotFound("no such rollout", given=rollout_id, cure="`rlaas endpoints show NAME` names the open one.")
    return _from_row(row)


def open_of(tx: Connection, endpoint: str) -> Rollout | None:
    """The endpoint's open rollout."""
    query = rollouts.select().where(rollouts.c.endpoint == endpoint, rollouts.c.state.in_(OPEN_ROLLOUT))
    row = tx.execute(query).one_or_none()
    return None if row is None else _from_row(row)


def all_open(tx: Connection) -> list[Rollout]:
    """Every open rollout, oldest first."""
    query = rollouts.select().where(rollouts.c.state.in_(OPEN_ROLLOUT)).order_by(rollouts.c.started_us)
    return [_from_row(row) for row in tx.execute(query)]


def page(tx: Connection, endpoint: str, *, after: tuple[int, str] | None, limit: int) -> list[Rollout]:
    """The endpoint's rollouts, newest first."""
    query = rollouts.select().where(rollouts.c.endpoint == endpoint)
    query = query.order_by(rollouts.c.started_us.desc(), rollouts.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(sa.tuple_(rollouts.c.started_us, rollouts.c.id) < sa.tuple_(*map(sa.literal, after)))
    return [_from_row(row) for row in tx.execute(query)]


def rolled_back_since(tx: Connection, endpoint: str, *, digest: str, since_us: int) -> Rollout | None:
    """The newest roll-back of this bundle here, if it ended after `since_us`."""
    query = rollouts.select().where(
        rollouts.c.endpoint == endpoint,
        rollouts.c.challenger_digest == digest,
        rollouts.c.state == "rolled_back",
        rollouts.c.ended_us > since_us,
    )
    row = tx.execute(query.order_by(rollouts.c.ended_us.desc()).limit(1)).one_or_none()
    return None if row is None else _from_row(row)


def move(
    tx: Connection,
    rollout: Rollout,
    *,
    to: str,
    now_us: int,
    stage: int | None = None,
    verdict: dict[str, Any] | None = None,
    first_epoch: int | None = None,
) -> Rollout:
    """`rollout` in its new state. Raises Conflict when the move does not exist or somebody else moved it first."""
    if to not in MOVES.get(rollout.state, frozenset()):
        raise Conflict(
            f"rollout {rollout.id} cannot go from {rollout.state} to {to}",
            given=to,
            expected=" or ".join(sorted(MOVES.get(rollout.state, ()))) or "no further state",
        )
    stage = rollout.stage if stage is None else stage
    begins = to == "ramping" and (stage != rollout.stage or rollout.state == "shadow")
    result = tx.execute(
        rollouts.update()
        .where(rollouts.c.id == rollout.id, rollouts.c.epoch == rollout.epoch, rollouts.c.state == rollout.state)
        .values(
            state=to,
            stage=stage,
            epoch=rollout.epoch + 1,
            stage_started_us=now_us if begins else rollout.stage_started_us,
            ended_us=None if to in OPEN_ROLLOUT else now_us,
            first_epoch=rollout.first_epoch if first_epoch is None else first_epoch,
            verdict_json=None if verdict is None else to_text(verdict),
        )
    )
    if result.rowcount != 1:
        raise Conflict(f"rollout {rollout.id} was moved by somebody else", expected=f"epoch {rollout.epoch}")
    return get(tx, rollout.id)


def add_evidence(tx: Connection, rollout_id: str, *, row: EvidenceRow) -> None:
    """Append one tick."""
    tx.execute(
        rollout_evidence.insert().values(
            rollout_id=rollout_id,
            seq=row.seq,
            time_us=row.time_us,
            cut_json=to_text(dict(row.cut)),
            status_json=to_text(row.status),
            statistics_json=to_text(row.statistics),
            verdict_json=to_text(row.verdict),
            digest=row.digest,
        )
    )


def evidence(tx: Connection, rollout_id: str, *, after: int = 0, limit: int | None = None) -> list[EvidenceRow]:
    """Recorded ticks beyond `after`, oldest first."""
    query = rollout_evidence.select().where(rollout_evidence.c.rollout_id == rollout_id, rollout_evidence.c.seq > after)
    return [_evidence(row) for row in tx.execute(query.order_by(rollout_evidence.c.seq).limit(limit))]


def last_evidence(tx: Connection, rollout_id: str) -> EvidenceRow | None:
    """The newest recorded tick."""
    query = rollout_evidence.select().where(rollout_evidence.c.rollout_id == rollout_id)
    row = tx.execute(query.order_by(rollout_evidence.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else _evidence(row)


def _evidence(row: Any) -> EvidenceRow:
    return EvidenceRow(
        seq=row.seq,
        time_us=row.time_us,
        cut=from_text(row.cut_json),
        status=from_text(row.status_json),
        statistics=from_text(row.statistics_json),
        verdict=from_text(row.verdict_json),
        digest=row.digest,
    )


def _from_row(row: Any) -> Rollout:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the row as a mapping
    spec = document.parse(RolloutSpec, from_text(fields.pop("spec_json")))
    verdict = from_text(fields.pop("verdict_json"))
    del fields["spec_digest"]
    return Rollout(spec=spec, verdict=verdict, **fields)
