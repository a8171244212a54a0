"""The judge: tails the decision log of each open rollout, folds it into evidence, and carries verdicts out, once each.

One tick a second by the loop, under its lease. Each tick with news is recorded as its cut of the log and its time, so that a
restart folds on where the last one stopped and anybody can reach the same verdict again, byte for byte (`replay`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlaas_ray.control import rollouts as cases
from rlaas_ray.errors import Conflict
from rlaas_ray.evaluation import adjustment, sequential
from rlaas_ray.policies.manifest import Manifest
from rlaas_ray.serve import rollout as rules
from rlaas_ray.specs.evidence import Evidence, RolloutStatus, Verdict
from rlaas_ray.specs.log import Cut
from rlaas_ray.specs.seams import Clock, DecisionLog
from rlaas_ray.store import database, endpoints, leases
from rlaas_ray.store import rollouts as rows
from rlaas_ray.store.database import Connection, Database
from rlaas_ray.store.leases import Lease
from rlaas_ray.store.rollouts import EvidenceRow, Rollout

_LOG = logging.getLogger(__name__)
_QUIET_US, _LONGEST_US = 5_000_000, 3_600_000_000  # without new rows time alone is news, but not each second
_NOT_YET = 2**62  # a start epoch that no table has: the challenger has no share yet

CovariatesOf = Callable[[str], adjustment.Covariates | None]


@dataclass(slots=True, kw_only=True)
class _Case:
    """One open rollout in memory: the fold, how far it has read, and when it last folded."""

    fold: sequential.Fold
    cut: Cut
    seq: int
    folded_us: int
    first_epoch: int
    deadline_us: int
    evidence: Evidence


class Judge:
    """`covariates_of(env)`: what an env's observations tell before assignment, for `adjust: first_observation`."""

    def __init__(
        self,
        *,
        database: Database,
        log: DecisionLog,
        clock: Clock,
        rollouts: cases.Rollouts,
        manifest: Callable[[str], Manifest],
        covariates_of: CovariatesOf,
    ) -> None:
        self._database = database
        self._log = log
        self._clock = clock
        self._rollouts = rollouts
        self._manifest = manifest
        self._covariates_of = covariates_of
        self._cases: dict[str, _Case] = {}

    def tick(self, *, lease: Lease | None = None) -> list[Verdict]:
        """Judge every open rollout once; gives the verdicts that were acted on. One that fails does not stop the others."""
        with self._database.read() as tx:
            found = rows.all_open(tx)
        for closed in set(self._cases) - {rollout.id for rollout in found}:
            del self._cases[closed]
        acted = []
        for rollout in found:
            try:
                verdict = self._judge(rollout, lease=lease)
            except Exception:  # noqa: BLE001 - one rollout that cannot be judged must not stop the others
                # The fold may have taken rows that were not recorded: rebuild it from what is.
                self._cases.pop(rollout.id, None)
                _LOG.exception("judging rollout %s", rollout.id)
                continue
            if verdict is not None:
                acted.append(verdict)
        return acted

    def replay(self, rollout_id: str) -> list[EvidenceRow]:
        """Every recorded tick, computed again from the log and the cuts alone; the stored rows must equal these."""
        with self._database.read() as tx:
            rollout = rows.get(tx, rollout_id)
            stored = rows.evidence(tx, rollout_id)
        fold = sequential.Fold(self._config(rollout))
        cut: Cut = {}
        again = []
        for row in stored:
            decisions, rewards, cut = self._log.read(rollout.endpoint, after=cut, until=row.cut)
            fold.add(decisions, rewards, now_us=row.time_us)
            verdict = rules.judge(fold.evidence(), spec=rollout.spec, status=RolloutStatus(**row.status))
            again.append(_row(row.seq, cut=row.cut, status=row.status, evidence=fold.evidence(), verdict=verdict))
        return again

    def _judge(self, rollout: Rollout, *, lease: Lease | None) -> Verdict | None:
        case = self._cases.get(rollout.id)
        if case is None or case.first_epoch != rollout.first_epoch:
            case = self._cases[rollout.id] = self._rebuilt(rollout)
        now_us = max(self._clock.now_us(), case.folded_us)
        decisions, rewards, cut = self._log.read(rollout.endpoint, after=case.cut)
        news = len(decisions) > 0 or len(rewards) > 0
        if not (news or self._overdue(case, now_us=now_us) or self._turns(rollout, case, now_us=now_us)):
            return None
        # Whatever is folded is recorded, also a tick without rows: time alone changes the fold (deadlines, orphans).
        case.fold.add(decisions, rewards, now_us=now_us)
        case.evidence = case.fold.evidence()
        return self._record(rollout, case, cut=cut, now_us=now_us, lease=lease)

    def _overdue(self, case: _Case, *, now_us: int) -> bool:
        """Whether deadlines may have passed since the last fold: looked for at twentieths of the deadline."""
        quiet_us = min(max(case.deadline_us // 20, _QUIET_US), _LONGEST_US)
        return case.evidence.pending > 0 and now_us - case.folded_us >= quiet_us

    def _turns(self, rollout: Rollout, case: _Case, *, now_us: int) -> bool:
        """Whether time alone has brought a verdict that acts."""
        return _acts(rules.judge(case.evidence, spec=rollout.spec, status=_status(rollout, now_us=now_us)))

    def _record(self, rollout: Rollout, case: _Case, *, cut: Cut, now_us: int, lease: Lease | None) -> Verdict | None:
        status = _status(rollout, now_us=now_us)
        verdict = rules.judge(case.evidence, spec=rollout.spec, status=status)
        row = _row(case.seq + 1, cut=cut, status=asdict(status), evidence=case.evidence, verdict=verdict)
        acts = _acts(verdict)
        with self._database.write() as tx:
            if lease is not None:
                leases.check(tx, lease)
            current = rows.get(tx, rollout.id)
            if current.epoch != rollout.epoch:
                raise Conflict(f"rollout {rollout.id} moved while it was judged", given=current.state)
            rows.add_evidence(tx, rollout.id, row=row)
            if acts:
                self._rollouts.act(tx, rollout, verdict=verdict)
        case.cut, case.seq, case.folded_us = cut, row.seq, now_us
        if acts:
            self._rollouts.told()
            _LOG.info("rollout %s: %s", rollout.id, verdict.reason)
        return verdict if acts else None

    def _rebuilt(self, rollout: Rollout) -> _Case:
        """The fold as it was after the last recorded tick."""
        with self._database.read() as tx:
            stored = rows.evidence(tx, rollout.id)
        config = self._config(rollout)
        fold = sequential.Fold(config)
        cut: Cut = {}
        for row in stored:
            decisions, rewards, cut = self._log.read(rollout.endpoint, after=cut, until=row.cut)
            fold.add(decisions, rewards, now_us=row.time_us)
        return _Case(
            fold=fold,
            cut=cut,
            seq=stored[-1].seq if stored else 0,
            folded_us=stored[-1].time_us if stored else 0,
            first_epoch=rollout.first_epoch,
            deadline_us=config.deadline_us,
            evidence=fold.evidence(),
        )

    def _config(self, rollout: Rollout) -> sequential.FoldConfig:
        with self._database.read() as tx:
            table = _first_table(tx, rollout)
        manifest = self._manifest(rollout.champion_digest)
        return sequential.configure(
            rollout.spec,
            table=table,
            covariates=self._covariates_of(manifest.env) if rollout.spec.adjust != "none" else None,
            observation_size=manifest.encoder.size,
        )


def _first_table(tx: Connection, rollout: Rollout) -> Any:
    """The table with which the challenger got its first share; while it has none, that table as it would be."""
    if rollout.first_epoch:
        return endpoints.table_of(tx, rollout.endpoint, epoch=rollout.first_epoch)
    endpoint = endpoints.get(tx, rollout.endpoint)
    before = endpoints.table_of(tx, rollout.endpoint, epoch=endpoint.epoch)
    return replace(cases.challenger_table(before, rollout), epoch=_NOT_YET)


def _status(rollout: Rollout, *, now_us: int) -> RolloutStatus:
    state: Any = rollout.state
    return RolloutStatus(
        state=state,
        stage=rollout.stage,
        started_us=rollout.started_us,
        stage_started_us=rollout.stage_started_us,
        now_us=now_us,
    )


def _acts(verdict: Verdict) -> bool:
    return verdict.kind != "hold" or verdict.advance


def _row(seq: int, *, cut: Cut, status: dict[str, Any], evidence: Evidence, verdict: Verdict) -> EvidenceRow:
    statistics = evidence.to_json()
    told = asdict(verdict)
    text = database.to_text({"cut": dict(cut), "status": status, "statistics": statistics, "verdict": told})
    return EvidenceRow(
        seq=seq,
        time_us=status["now_us"],
        cut=dict(cut),
        status=status,
        statistics=statistics,
        verdict=told,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
