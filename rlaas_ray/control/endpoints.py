"""Endpoints: made, given another champion, taken down; the document that shows one with its arms, spaces and addresses.

Called by the API. Every change is one new route table; `control/rollouts.py` makes the tables of rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlaas_ray.control import documents
from rlaas_ray.control.actor import Actor
from rlaas_ray.control.feed import Feed
from rlaas_ray.control.models import Models, Resolved
from rlaas_ray.errors import Conflict, InvalidInput
from rlaas_ray.policies.manifest import Manifest
from rlaas_ray.specs.endpoint import EndpointSpec
from rlaas_ray.specs.routing import BUCKETS, Arm, Role, RouteTable
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit, rollouts
from rlaas_ray.store import endpoints as rows
from rlaas_ray.store.database import Connection, Database

_TAKEN_S = 3.0


class Endpoints:
    """`ingress(pool)`: the address of Serve's own HTTP for a pool, where there is one."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        models: Models,
        feed: Feed,
        ingress: Callable[[str], str | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._models = models
        self._feed = feed
        self._ingress = ingress

    def put(self, spec: EndpointSpec, *, actor: Actor) -> tuple[dict[str, Any], bool]:
        """The endpoint as the spec says, and whether it is new. Raises Conflict while a rollout is open."""
        champion = self._models.resolve(spec.champion, actor=actor)
        fallback = self._models.resolve(spec.fallback, actor=actor) if spec.fallback is not None else None
        if fallback is not None:
            same_spaces(fallback, champion)
            if fallback.manifest.preference is not None:  # one that observes no weights is a fine fallback
                same_preference(fallback, champion)
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            known = rows.find(tx, spec.name)
            table = first_table(spec, champion=champion, fallback=fallback)
            words = f"champion {champion.version.ref}" + _preferred(table)
            change = rows.Change(actor=actor.id, reason="user", words=words, time_us=now_us)
            if known is None:
                table = rows.create(tx, spec, table=table, change=change)
            else:
                _may_change(tx, known, spec=spec, champion=champion, models=self._models)
                table = rows.change_table(tx, known, table=table, change=change, spec=spec)
            action = "endpoints.create" if known is None else "endpoints.replace"
            _audit(tx, table, actor=actor, action=action, now_us=now_us)
        self._feed.bell.ring()
        self._wait(spec.pool, epoch=table.epoch)
        return self.get(spec.name), known is None

    def get(self, name: str) -> dict[str, Any]:
        """The document. Raises NotFound."""
        with self._database.read() as tx:
            endpoint = rows.get(tx, name)
            return self._document(tx, endpoint)

    def page(self, *, after: tuple[int, str] | None, limit: int) -> list[dict[str, Any]]:
        """Documents, newest first."""
        with self._database.read() as tx:
            return [self._document(tx, endpoint) for endpoint in rows.page(tx, after=after, limit=limit)]

    def history(self, name: str, *, after_epoch: int | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Its tables, newest first, each with who changed it and why."""
        with self._database.read() as tx:
            rows.get(tx, name)
            return rows.history(tx, name, after_epoch=after_epoch, limit=limit)

    def delete(self, name: str, *, actor: Actor) -> None:
        """Take it down; tables and log stay. Raises Conflict while a rollout is open."""
        now_us = self._clock.now_us()
        with self._database.write() as tx:
            endpoint = rows.get(tx, name)
            _no_rollout(tx, name)
            table = replace(rows.table_of(tx, name, epoch=endpoint.epoch), deleted=True)
            change = rows.Change(actor=actor.id, reason="user", words="deleted", time_us=now_us)
            table = rows.change_table(tx, endpoint, table=table, change=change)
            _audit(tx, table, actor=actor, action="endpoints.delete", now_us=now_us)
        self._feed.bell.ring()

    def pool_of(self, name: str) -> str | None:
        """The pool that answers for an endpoint; None for one that is not there."""
        with self._database.read() as tx:
            endpoint = rows.find(tx, name)
        return None if endpoint is None else endpoint.spec.pool

    def addresses(self, pool: str) -> dict[str, Any]:
        """Where the pool can be asked without the detour over the API."""
        native = [f"http://{one.address}" for one in self._feed.listeners(pool)]
        return {"native": native, "ingress": self._ingress(pool)}

    def _wait(self, pool: str, *, epoch: int) -> None:
        """Until the pool answers by this table: who made an endpoint may ask it. A replica that is ill delays nobody long."""
        until = self._clock.monotonic_s() + _TAKEN_S
        while not self._feed.taken(pool, epoch=epoch) and self._clock.monotonic_s() < until:
            self._clock.sleep(0.02)

    def _document(self, tx: Connection, endpoint: rows.Endpoint) -> dict[str, Any]:
        table = rows.table_of(tx, endpoint.name, epoch=endpoint.epoch)
        manifest = self._models.manifest(table.champion.digest)
        rollout = rollouts.open_of(tx, endpoint.name)
        return documents.endpoint(
            endpoint,
            table=table,
            rollout_id=rollout.id if rollout is not None else None,
            addresses=self.addresses(endpoint.spec.pool),
            manifest_spaces=(manifest.observation_space, manifest.action_space),
        )


def first_table(spec: EndpointSpec, *, champion: Resolved, fallback: Resolved | None) -> RouteTable:
    """The table of an endpoint outside a rollout; its epoch is given when it is appended."""
    arms = [arm("champion", champion)]
    if fallback is not None:
        arms.append(arm("fallback", fallback))
    return RouteTable(
        endpoint=spec.name,
        epoch=0,
        pool=spec.pool,
        arms=tuple(arms),
        salt=f"endpoint:{spec.name}"[:64],
        assign_by=spec.assign_by,
        holdout_buckets=round(spec.holdout_percent * BUCKETS / 100),
        reward_low=spec.reward.low,
        reward_high=spec.reward.high,
        gamma=spec.reward.gamma,
        reward_deadline_s=spec.reward.deadline_s,
        deadline_ms=spec.deadline_ms,
        durability=spec.durability,
        on_full=spec.on_full,
        preference=preference_of(spec, champion=champion),
    )


def preference_of(spec: EndpointSpec, *, champion: Resolved) -> tuple[tuple[str, float], ...]:
    """The weights that the champion is to observe: the spec's, else its default; none for one that observes none.

    Raises InvalidInput for weights that it cannot take.
    """
    own = champion.manifest.preference
    if own is not None:
        return tuple(own.named(own.weights_of(spec.preference)).items())
    if spec.preference is None:
        return ()
    raise InvalidInput(
        f"preference for {champion.version.ref}",
        given=spec.preference,
        expected="none: this policy is not conditioned on weights",
        cure="Train one with `preference: conditioned`.",
        pointer="/preference",
    )


def arm(role: Role, resolved: Resolved) -> Arm:
    """The arm of a version; arms are named by their role."""
    return Arm(name=role, role=role, version=resolved.version.ref, digest=resolved.version.digest)


def same_spaces(one: Resolved, other: Resolved) -> None:
    """Raises InvalidInput unless both take the same observations and give the same actions."""
    for noun in ("observation_space", "action_space"):
        given, expected = getattr(one.manifest, noun), getattr(other.manifest, noun)
        if given != expected:
            raise InvalidInput(
                f"arms of one endpoint need the same {noun.replace('_', ' ')}: {one.version.ref} and {other.version.ref}",
                given=given,
                expected=str(expected)[:200],
                cure=f"{one.version.ref} was made for {one.manifest.env}, {other.version.ref} for {other.manifest.env}.",
            )


def same_preference(one: Resolved, other: Resolved) -> None:
    """Raises InvalidInput unless both observe weights of the same objectives, in the same units, or both none."""
    given, expected = (_objectives(version.manifest) for version in (one, other))
    if given != expected:
        raise InvalidInput(
            f"arms of one endpoint observe the same weights: {one.version.ref} and {other.version.ref}",
            given=given or "none",
            expected=str(expected or "none"),
            cure="Serve it at another endpoint.",
        )


def _objectives(manifest: Manifest) -> list[str]:
    own = manifest.preference
    return [] if own is None else [f"{one.name} ({one.direction}, {one.unit})" for one in own.objectives]


def _preferred(table: RouteTable) -> str:
    shares = ", ".join(f"{name} {weight:.4g}" for name, weight in table.preference)
    return f" preferring {shares}" if shares else ""


def _may_change(
    tx: Connection, known: rows.Endpoint, *, spec: EndpointSpec, champion: Resolved, models: Models
) -> None:
    _no_rollout(tx, known.name)
    if known.spec.pool != spec.pool:
        raise Conflict(
            "an endpoint stays in its pool", given=spec.pool, expected=known.spec.pool, cure="Delete it first."
        )
    before = rows.table_of(tx, known.name, epoch=known.epoch).champion
    manifest = models.manifest(before.digest)
    if manifest.observation_space != champion.manifest.observation_space:
        raise InvalidInput(
            f"endpoint {known.name!r} takes other observations",
            given=champion.manifest.observation_space,
            expected=str(manifest.observation_space)[:200],
            cure="Serve it at another endpoint: clients of this one send what its champion takes.",
        )
    given, expected = _objectives(champion.manifest), _objectives(manifest)
    if given != expected:
        raise InvalidInput(
            f"weights that policies of endpoint {known.name!r} observe",
            given=given or "none",
            expected=str(expected or "none"),
            cure="Serve it at another endpoint: the rows of this one's log have the weights of its champion.",
        )


def _no_rollout(tx: Connection, name: str) -> None:
    rollout = rollouts.open_of(tx, name)
    if rollout is not None:
        raise Conflict(
            f"endpoint {name!r} has an open rollout",
            given=rollout.id,
            expected="none",
            cure=f"`rlaas rollout promote {name}` or `rlaas rollout abort {name}` first.",
        )


def _audit(tx: Connection, table: RouteTable, *, actor: Actor, action: str, now_us: int) -> None:
    entry = audit.Entry(
        actor=actor.id,
        action=action,
        object=f"endpoint:{table.endpoint}",
        request_id=actor.request_id,
        detail={
            "epoch": table.epoch,
            "table": table.digest(),
            "champion": table.champion.version,
            **({"preference": dict(table.preference)} if table.preference else {}),
        },
    )
    audit.append(tx, entry, now_us=now_us)
