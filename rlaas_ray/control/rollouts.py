"""Rollouts: begun by a person, moved by verdicts or by a person, each move one transaction with its table and its audit row.

Called by the API and by `control/judge.py`. Decides nothing: `serve/rollout.py` judges, this carries the verdict out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rlaas_ray.control import documents
from rlaas_ray.control import endpoints as endpoint_cases
from rlaas_ray.control.actor import CONTROLLER, Actor
from rlaas_ray.control.feed import Feed
from rlaas_ray.control.models import Models
from rlaas_ray.errors import Conflict, InvalidInput, NotBuilt, Refused
from rlaas_ray.serve import rollout as rules
from rlaas_ray.specs.evidence import Verdict
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.routing import Arm, RouteTable
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit, endpoints, idempotency, ids, registry
from rlaas_ray.store import rollouts as rows
from rlaas_ray.store.database import Connection, Database
from rlaas_ray.store.idempotency import Made, Once
from rlaas_ray.store.rollouts import Rollout

BARRED_S = 86_400.0


class Rollouts:
    """The use cases. `changed` is told after each verdict or word of a person (the audit log signs a checkpoint then)."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        models: Models,
        feed: Feed,
        changed: Callable[[], object],
    ) -> None:
        self._database = database
        self._clock = clock
        self._models = models
        self._feed = feed
        self._changed = changed

    def start(self, spec: RolloutSpec, *, actor: Actor, once: Once | None = None) -> Made:
        """A rollout in its first stage. Raises Conflict, Refused (infeasible or barred), NotFound or InvalidInput."""
        challenger = self._models.resolve(spec.challenger, actor=actor)
        if spec.shadow and challenger.manifest.remembers:
            raise NotBuilt(
                "a shadow arm with a memory",
                given=challenger.version.ref,
                cure="A shadow has no token to remember by: begin at a small share instead.",
            )
        now_us = self._clock.now_us()
        with self._database.write() as tx:

            def make() -> Made:
                endpoint = endpoints.get(tx, spec.endpoint)
                before = endpoints.table_of(tx, endpoint.name, epoch=endpoint.epoch)
                champion = replace(
                    challenger,
                    version=_version(tx, before.champion),
                    manifest=self._models.manifest(before.champion.digest),
                )
                endpoint_cases.same_spaces(challenger, champion)
                endpoint_cases.same_preference(challenger, champion)
                self._not_barred(tx, spec, digest=challenger.version.digest, now_us=now_us)
                rules.check_feasible(spec)
                rollout = Rollout(
                    id=ids.new("rollout"),
                    endpoint=spec.endpoint,
                    spec=spec,
                    challenger=challenger.version.ref,
                    challenger_digest=challenger.version.digest,
                    champion=before.champion.version,
                    champion_digest=before.champion.digest,
                    first_epoch=0,
                    state="shadow" if spec.shadow else "ramping",
                    stage=0,
                    epoch=1,
                    started_us=now_us,
                    stage_started_us=now_us,
                )
                table = _with_challenger(before, rollout)
                words = f"rollout {rollout.id} of {rollout.challenger} begins"
                change = endpoints.Change(actor=actor.id, reason="rollout", words=words, time_us=now_us)
                table = endpoints.change_table(tx, endpoint, table=table, change=change)
                rollout = replace(rollout, first_epoch=0 if spec.shadow else table.epoch)
                rows.insert(tx, rollout)
                _audit(tx, rollout, actor=actor, action="rollouts.start", table=table, now_us=now_us)
                location = f"/api/v1/endpoints/{spec.endpoint}/rollouts/{rollout.id}"
                return Made(document=documents.rollout(rollout, evidence=None), location=location)

            made = idempotency.once(tx, once, now_us=now_us, make=make)
        self._feed.bell.ring()
        return made

    def get(self, endpoint: str, rollout_id: str) -> dict[str, Any]:
        """The document with the newest evidence."""
        with self._database.read() as tx:
            rollout = rows.get(tx, rollout_id, endpoint=endpoint)
            return documents.rollout(rollout, evidence=rows.last_evidence(tx, rollout.id))

    def page(self, endpoint: str, *, after: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """The endpoint's rollouts, newest first."""
        with self._database.read() as tx:
            found = rows.page(tx, endpoint, after=after, limit=limit)
            return [documents.rollout(one, evidence=rows.last_evidence(tx, one.id)) for one in found]

    def evidence(self, endpoint: str, rollout_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
        """The recorded ticks: statistics over time, for plots."""
        with self._database.read() as tx:
            rollout = rows.get(tx, rollout_id, endpoint=endpoint)
            found = rows.evidence(tx, rollout.id, after=after, limit=limit)
        names = ("seq", "time_us", "statistics", "status", "verdict", "digest")
        return [{name: getattr(row, name) for name in names} for row in found]

    def newest_evidence(self, endpoint: str) -> dict[str, Any]:
        """The newest rollout of an endpoint and what its log says so far; `evidence` is null before the first tick."""
        with self._database.read() as tx:
            endpoints.get(tx, endpoint)
            found = rows.page(tx, endpoint, after=None, limit=1)
            if not found:
                return {"endpoint": endpoint, "rollout": None, "verdict": None, "evidence": None}
            document = documents.rollout(found[0], evidence=rows.last_evidence(tx, found[0].id))
        return {
            "endpoint": endpoint,
            "rollout": document["id"],
            "verdict": document["verdict"],
            "evidence": document["evidence"],
        }

    def promote(self, endpoint: str, rollout_id: str, *, reason: str | None, actor: Actor) -> dict[str, Any]:
        """A person makes the challenger champion, before or against the evidence."""
        with self._database.write() as tx:
            rollout = rows.get(tx, rollout_id, endpoint=endpoint)
            words = reason or "promoted by a person"
            verdict = Verdict(kind="promote", reason=words, numbers=self._numbers(tx, rollout))
            self.promoted(tx, rollout, verdict=verdict, actor=actor)
        self.told()
        return self.get(endpoint, rollout_id)

    def abort(self, endpoint: str, rollout_id: str, *, reason: str | None, actor: Actor) -> dict[str, Any]:
        """A person gives all units back to the champion."""
        with self._database.write() as tx:
            rollout = rows.get(tx, rollout_id, endpoint=endpoint)
            words = reason or "aborted by a person"
            verdict = Verdict(kind="hold", reason=words, numbers=self._numbers(tx, rollout))
            self._ended(tx, rollout, to="aborted", verdict=verdict, actor=actor, reason="user")
        self.told()
        return self.get(endpoint, rollout_id)

    def act(self, tx: Connection, rollout: Rollout, *, verdict: Verdict) -> Rollout:
        """Carry a verdict out, in the judge's transaction. A plain hold changes nothing but `ramping <-> holding`."""
        match verdict.kind:
            case "promote":
                return self.promoted(tx, rollout, verdict=verdict, actor=CONTROLLER)
            case "roll_back":
                return self._ended(tx, rollout, to="rolled_back", verdict=verdict, actor=CONTROLLER, reason="rollback")
            case "inconclusive":
                return self._ended(tx, rollout, to="inconclusive", verdict=verdict, actor=CONTROLLER, reason="rollout")
            case "hold" if verdict.advance:
                return self._advance(tx, rollout, verdict=verdict)
            case "hold":
                return rollout

    def promoted(self, tx: Connection, rollout: Rollout, *, verdict: Verdict, actor: Actor) -> Rollout:
        """The challenger becomes champion; the name's alias `champion` follows."""
        now_us = self._clock.now_us()
        self._must_be_open(rollout)
        endpoint = endpoints.get(tx, rollout.endpoint)
        before = endpoints.table_of(tx, endpoint.name, epoch=endpoint.epoch)
        champion = replace(before.champion, version=rollout.challenger, digest=rollout.challenger_digest)
        spec = endpoint.spec.model_copy(update={"champion": rollout.challenger})
        table = replace(_without_challenger(before), arms=(champion, *_fallback(before)))
        words = f"rollout {rollout.id}: {verdict.reason}"
        change = endpoints.Change(actor=actor.id, reason="rollout", words=words, time_us=now_us)
        table = endpoints.change_table(tx, endpoint, table=table, change=change, spec=spec)
        rollout = rows.move(tx, rollout, to="promoted", now_us=now_us, verdict=asdict(verdict))
        name, _, number = rollout.challenger.rpartition(":")
        registry.set_alias(tx, name, alias="champion", number=int(number))
        _audit(tx, rollout, actor=actor, action="rollouts.promote", table=table, now_us=now_us)
        return rollout

    def told(self) -> None:
        """After a commit that changed a table: wake the polls; sign what was promoted."""
        self._feed.bell.ring()
        self._changed()

    def _ended(
        self, tx: Connection, rollout: Rollout, *, to: str, verdict: Verdict, actor: Actor, reason: str
    ) -> Rollout:
        now_us = self._clock.now_us()
        self._must_be_open(rollout)
        endpoint = endpoints.get(tx, rollout.endpoint)
        table = _without_challenger(endpoints.table_of(tx, endpoint.name, epoch=endpoint.epoch))
        words = f"rollout {rollout.id}: {verdict.reason}"
        change = endpoints.Change(actor=actor.id, reason=reason, words=words, time_us=now_us)
        table = endpoints.change_table(tx, endpoint, table=table, change=change)
        rollout = rows.move(tx, rollout, to=to, now_us=now_us, verdict=asdict(verdict))
        _audit(tx, rollout, actor=actor, action=f"rollouts.{to}", table=table, now_us=now_us)
        return rollout

    def _advance(self, tx: Connection, rollout: Rollout, *, verdict: Verdict) -> Rollout:
        now_us = self._clock.now_us()
        stage = 0 if rollout.state == "shadow" else rollout.stage + 1
        endpoint = endpoints.get(tx, rollout.endpoint)
        before = endpoints.table_of(tx, endpoint.name, epoch=endpoint.epoch)
        table = _with_challenger(before, replace(rollout, state="ramping", stage=stage))
        change = endpoints.Change(actor=CONTROLLER.id, reason="rollout", words=verdict.reason, time_us=now_us)
        table = endpoints.change_table(tx, endpoint, table=table, change=change)
        first = table.epoch if rollout.first_epoch == 0 else None
        rollout = rows.move(tx, rollout, to="ramping", now_us=now_us, stage=stage, first_epoch=first)
        _audit(tx, rollout, actor=CONTROLLER, action="rollouts.advance", table=table, now_us=now_us)
        return rollout

    def _not_barred(self, tx: Connection, spec: RolloutSpec, *, digest: str, now_us: int) -> None:
        since_us = now_us - round(BARRED_S * 1e6)
        before = rows.rolled_back_since(tx, spec.endpoint, digest=digest, since_us=since_us)
        if before is None or spec.force:
            return
        raise Refused(
            f"this bundle was rolled back at {spec.endpoint!r} in the last 24 h",
            given=before.challenger,
            expected="another bundle",
            cure=f"Read why in rollout {before.id}; `--set force=true` lets it in again.",
        )

    def _must_be_open(self, rollout: Rollout) -> None:
        if not rollout.is_open:
            raise Conflict(f"rollout {rollout.id} has ended", given=rollout.state, expected="an open rollout")

    def _numbers(self, tx: Connection, rollout: Rollout) -> dict[str, float | int | str | None]:
        last = rows.last_evidence(tx, rollout.id)
        return dict(last.verdict["numbers"]) if last is not None else {}


def challenger_table(before: RouteTable, rollout: Rollout) -> RouteTable:
    """The table of the rollout's first share, as the fold's configuration wants it, before it exists (shadow)."""
    return _with_challenger(before, replace(rollout, state="ramping", stage=0))


def _with_challenger(before: RouteTable, rollout: Rollout) -> RouteTable:
    """The table with the challenger at its share of this stage (or as shadow, which owns nothing)."""
    shadow = rollout.state == "shadow"
    known = before.arm("challenger")
    role = "shadow" if shadow else "challenger"
    ranges = known.ranges if known is not None and not shadow else ()
    fresh = Arm(
        name="shadow" if shadow else "challenger",
        role="shadow" if shadow else "challenger",
        version=rollout.challenger,
        digest=rollout.challenger_digest,
        ranges=ranges,
    )
    arms: tuple[Arm, ...] = (before.champion, fresh, *_fallback(before))
    if role == "challenger":
        arms = rules.next_arms(arms, rollout.spec.stages[rollout.stage])
    # A salt per rollout: with a common one the same units would always be the guinea pigs.
    return replace(before, arms=arms, salt=rollout.id, rollout_id=rollout.id)


def _without_challenger(before: RouteTable) -> RouteTable:
    salt = f"endpoint:{before.endpoint}"[:64]
    return replace(before, arms=(before.champion, *_fallback(before)), salt=salt, rollout_id=None)


def _fallback(table: RouteTable) -> Sequence[Arm]:
    found = table.arm("fallback")
    return () if found is None else (found,)


def _version(tx: Connection, arm: Arm) -> Any:
    name, _, number = arm.version.rpartition(":")
    if not number.isdigit():
        raise InvalidInput("version of an arm", given=arm.version, expected="NAME:NUMBER")
    return registry.get(tx, name, number=int(number))


def _audit(tx: Connection, rollout: Rollout, *, actor: Actor, action: str, table: RouteTable, now_us: int) -> None:
    detail: Mapping[str, Any] = {
        "endpoint": rollout.endpoint,
        "challenger": rollout.challenger,
        "stage": rollout.stage,
        "epoch": table.epoch,
        "table": table.digest(),
        "verdict": None if rollout.verdict is None else rollout.verdict["reason"],
    }
    entry = audit.Entry(
        actor=actor.id, action=action, object=f"rollout:{rollout.id}", request_id=actor.request_id, detail=detail
    )
    audit.append(tx, entry, now_us=now_us)
