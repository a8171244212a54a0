"""One turn of decisions: assign, infer in one batch per arm, fall back, write down, and only then know the answers.

Called by `answer.py` with asks that are already validated. Every ask ends as a Decided or the turn says why it cannot;
a policy that raises, or gives a number that is not finite, costs its arm a failure and its unit nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from rlaas_ray.data import schema
from rlaas_ray.errors import Conflict, Overloaded, Unavailable
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve import assignment, tokens
from rlaas_ray.serve.shadow import Shadows
from rlaas_ray.serve.state import Drawn, EndpointState, ServingPolicy
from rlaas_ray.serve.tokens import Remembered, Tokens
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.arrays import F32, F64, Bool
from rlaas_ray.specs.routing import Arm, RouteTable
from rlaas_ray.specs.seams import Clock

GIVEN_IDS = 10_000
_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Ask:
    """One decision wanted, valid. `row` (d,) is encoded; `given` says that the client chose the id; `arm` forces a version."""

    unit: str
    row: F32
    episode_id: str | None
    step: int
    decision_id: str
    given: bool
    deadline_s: float
    log: bool
    arm: Arm | None = None
    mask: Bool | None = None
    remembered: Remembered | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Decided:
    """One decision made. `arm` is the assigned one, whoever answered; `action` (a,) as executed.

    `state` (s,): what the assigned arm's policy remembers now; None where it has no memory, or another arm answered.
    """

    ask: Ask
    assigned: assignment.Assignment
    action_proposed: F64
    action: F64
    action_json: Any
    propensity: float
    probabilities: F64 | None
    fallback: str | None
    latency_us: int | None  # of its own inference; None for a row that was inferred together with others
    logged: bool = False
    answered: bool = True
    state: F32 | None = None
    state_token: str | None = None

    def body(self, *, epoch: int) -> dict[str, Any]:
        """The answer's JSON values."""
        body: dict[str, Any] = {
            "decision_id": self.ask.decision_id,
            "action": self.action_json,
            "version": self.assigned.arm.version,
            "arm": self.assigned.arm.name,
            "arm_probability": self.assigned.probability,
            "propensity": self.propensity,
            "epoch": epoch,
            "logged": self.logged,
            "fallback": self.fallback,
        }
        if self.probabilities is not None:
            body["probabilities"] = self.probabilities.tolist()
        if self.state_token is not None:
            body["state_token"] = self.state_token
        return body


class _Given(TypedDict):
    """What all groups of a turn share."""

    asks: Sequence[Ask]
    assigned: list[assignment.Assignment]
    made: dict[int, Decided]


class Decider:
    """Makes the decisions of one process. `rng` draws the actions: one generator, on one thread."""

    def __init__(
        self,
        *,
        writer: DecisionWriter,
        rng: np.random.Generator,
        clock: Clock,
        metrics: ServingMetrics,
        shadows: Shadows,
        tokens: Tokens,
    ) -> None:
        self._tokens = tokens
        self._writer = writer
        self._rng = rng
        self._clock = clock
        self._metrics = metrics
        self._shadows = shadows
        self._given: OrderedDict[tuple[str, str], tuple[bytes, dict[str, Any]]] = OrderedDict()

    def replay(self, endpoint: str, *, ask: Ask) -> dict[str, Any] | None:
        """The answer that this process gave before to the client's own id; Conflict when that asked something else."""
        kept = self._given.get((endpoint, ask.decision_id))
        if kept is None:
            return None
        if kept[0] != fingerprint(ask):
            raise Conflict(
                "decision_id was used for another request",
                given=ask.decision_id,
                cure="Give each decision an id of its own, or leave it out.",
                pointer="/decision_id",
            )
        return kept[1]

    def remember(self, endpoint: str, *, ask: Ask, body: dict[str, Any]) -> None:
        """Keep an answer for when the client, unsure, asks again with the same id (the last 10,000 of this process)."""
        self._given[endpoint, ask.decision_id] = (fingerprint(ask), body)
        if len(self._given) > GIVEN_IDS:
            self._given.popitem(last=False)

    def decide(self, endpoint: EndpointState, *, asks: Sequence[Ask]) -> list[Decided]:
        """All asks of one endpoint and turn, in order. Raises Unavailable when no policy at all could answer."""
        table = endpoint.table
        by_episode = table.assign_by == "episode"
        alone = self._alone(asks)
        groups: dict[str, tuple[Arm, list[int]]] = {}
        assigned: list[assignment.Assignment] = []
        for index, ask in enumerate(asks):
            if ask.arm is not None:
                chosen = assignment.Assignment(ask.arm, 1.0, "override")
            else:
                chosen = assignment.assign(table, (ask.episode_id or ask.decision_id) if by_episode else ask.unit)
            assigned.append(chosen)
            if index != alone:
                groups.setdefault(chosen.arm.digest, (chosen.arm, []))[1].append(index)
        made: dict[int, Decided] = {}
        given: _Given = {"asks": asks, "assigned": assigned, "made": made}
        if alone is not None:
            self._run_group(endpoint, arm=assigned[alone].arm, indices=[alone], measured=True, **given)
        for arm, indices in groups.values():
            self._run_group(endpoint, arm=arm, indices=indices, measured=False, **given)
        decided = [made[index] for index in range(len(asks))]
        if endpoint.remembers:
            self._seal(decided, endpoint=table.endpoint)
        self._write(endpoint, decided=decided)
        self._count(endpoint, decided=decided)
        if not all(d.answered for d in decided):
            raise Unavailable(
                f"no policy of endpoint {table.endpoint!r} can answer now",
                cure="Its champion fails and it has no fallback that works; see `rlaas endpoints show`.",
            )
        self._shadows.offer(endpoint, rows=[(d.ask.decision_id, d.ask.row, d.action) for d in decided])
        return decided

    def _seal(self, decided: Sequence[Decided], *, endpoint: str) -> None:
        """Tokens into the answers. Where another arm stood in, the client keeps the token that it had."""
        for d in decided:
            if d.state is not None:
                digest = d.assigned.arm.digest
                d.state_token = self._tokens.seal(d.state, endpoint=endpoint, unit=d.ask.unit, digest=digest)
            elif d.ask.remembered is not None:
                d.state_token = d.ask.remembered.token

    def _alone(self, asks: Sequence[Ask]) -> int | None:
        """Which ask of the turn is inferred first and by itself, so that its time is a measurement of its arm; None: none counts.

        The time of an arm's batch is none: it depends on how many rows the split gave the arm, a pause of the machine is paid
        by whoever's batch it met, and then by all its rows at once. Asked first and alone, chosen without a look at the arms,
        a row has a time that no other row's arm has a part in: `evaluation/sequential.py` bets on that. One forward more a turn.
        """
        counted = [index for index, ask in enumerate(asks) if ask.log and ask.arm is None]
        if len(counted) < 2:
            return counted[0] if counted else None
        return counted[int(self._rng.integers(len(counted)))]

    def _run_group(
        self,
        endpoint: EndpointState,
        *,
        arm: Arm,
        indices: list[int],
        measured: bool,
        asks: Sequence[Ask],
        assigned: list[assignment.Assignment],
        made: dict[int, Decided],
    ) -> None:
        """Decide for one arm; rows that it fails go to its stand-in, still as decisions of the arm."""
        started_s = self._clock.monotonic_s()
        ok, drawn = self._attempt(endpoint, arm=arm, asks=[asks[i] for i in indices], now_s=started_s)
        ended_s = self._clock.monotonic_s()
        latency_us = round((ended_s - started_s) * 1e6) if measured else None
        alone = endpoint.stand_in(arm) is None
        failed: list[tuple[int, str]] = []
        for k, i in enumerate(indices):
            reason = _too_late(asks[i], started_s=started_s, ended_s=ended_s)
            if drawn is None or not ok[k]:
                failed.append((i, "error"))
            elif reason is not None and not alone:
                failed.append((i, reason))
            else:
                if assigned[i].excluded == "estop":
                    reason = "estop"
                made[i] = _decided(
                    asks[i],
                    assigned[i],
                    drawn=drawn,
                    row=k,
                    policy=endpoint.policy(arm),
                    fallback=reason,
                    latency_us=latency_us,
                )
        if failed:
            self._stand_in(
                endpoint, arm=arm, failed=failed, asks=asks, assigned=assigned, made=made, latency_us=latency_us
            )

    def _attempt(
        self, endpoint: EndpointState, *, arm: Arm, asks: Sequence[Ask], now_s: float
    ) -> tuple[Bool, Drawn | None]:
        """Which rows (n,) have finite numbers, and what was drawn; None when the arm is ejected or raised."""
        nothing = np.zeros(len(asks), dtype=np.bool_)
        breaker = endpoint.breaker(arm)
        if breaker.is_open(now_s) and endpoint.stand_in(arm) is not None:
            return nothing, None
        policy = endpoint.policy(arm)
        seen = endpoint.inputs if policy.digest in endpoint.blind else None
        drawn, error = self._drawn(policy, asks=asks, seen=seen)
        if drawn is None and len(asks) > 1:
            # One odd observation must not take the others of its turn along.
            drawn, error = self._one_by_one(policy, asks=asks, seen=seen)
        good = nothing if drawn is None else _finite(drawn, remembers=policy.state_size > 0)
        if error is not None:
            _logger.error("arm %s of %s failed", arm.name, endpoint.table.endpoint, exc_info=error)
        if good.any():
            breaker.worked()
        elif breaker.failed(self._clock.monotonic_s()):
            self._metrics.ejections.labels(endpoint.table.endpoint, arm.name).inc()
            _logger.error("arm %s of %s is ejected after repeated failures", arm.name, endpoint.table.endpoint)
        return good, drawn

    def _drawn(
        self, policy: ServingPolicy, *, asks: Sequence[Ask], seen: int | None
    ) -> tuple[Drawn | None, Exception | None]:
        """`seen`: how much of a row the policy observes; None for all of it."""
        encoded, mask = np.stack([ask.row for ask in asks]), _masks(asks)
        if seen is not None:
            encoded = np.ascontiguousarray(encoded[:, :seen])
        try:
            if not policy.state_size:
                return policy.decide(encoded, rng=self._rng, mask=mask), None
            held = tokens.states([ask.remembered for ask in asks], digest=policy.digest, size=policy.state_size)
            return policy.decide(encoded, rng=self._rng, mask=mask, state=held), None
        except Exception as error:  # noqa: BLE001 (a policy is a stranger's code: its unit is answered all the same)
            return None, error

    def _one_by_one(
        self, policy: ServingPolicy, *, asks: Sequence[Ask], seen: int | None
    ) -> tuple[Drawn | None, Exception | None]:
        """Each row by itself; rows that fail are NaN. None when all do."""
        rows: list[Drawn | None] = []
        last: Exception | None = None
        for ask in asks:
            drawn, error = self._drawn(policy, asks=[ask], seen=seen)
            rows.append(drawn)
            last = error or last
        return _stacked(rows), last

    def _stand_in(
        self,
        endpoint: EndpointState,
        *,
        arm: Arm,
        failed: list[tuple[int, str]],
        asks: Sequence[Ask],
        assigned: list[assignment.Assignment],
        made: dict[int, Decided],
        latency_us: int | None,
    ) -> None:
        other = endpoint.stand_in(arm)
        ok, drawn = (
            (np.zeros(len(failed), dtype=np.bool_), None)
            if other is None
            else self._attempt(endpoint, arm=other, asks=[asks[i] for i, _ in failed], now_s=self._clock.monotonic_s())
        )
        for k, (i, reason) in enumerate(failed):
            if other is None or drawn is None or not ok[k]:
                made[i] = _unanswered(asks[i], assigned[i], fallback=reason, latency_us=latency_us)
            else:
                policy = endpoint.policy(other)
                made[i] = _decided(
                    asks[i], assigned[i], drawn=drawn, row=k, policy=policy, fallback=reason, latency_us=latency_us
                )

    def _write(self, endpoint: EndpointState, *, decided: list[Decided]) -> None:
        rows = [d for d in decided if d.ask.log]
        if not rows:
            return
        table = endpoint.table
        time_us = self._clock.now_us()
        told = [_row(d, table=table, time_us=time_us) for d in rows]
        form = schema.decisions(endpoint.width)
        logged = self._writer.append("decisions", endpoint=table.endpoint, rows=told, form=form)
        if not logged and table.on_full == "shed":
            raise Overloaded(
                "decisions cannot be logged now", cure="Try again in a moment; the log's disk is full or failing."
            )
        for d in rows:
            d.logged = logged

    def _count(self, endpoint: EndpointState, *, decided: list[Decided]) -> None:
        name = endpoint.table.endpoint
        arms: dict[str, int] = {}
        for d in decided:
            arms[d.assigned.arm.name] = arms.get(d.assigned.arm.name, 0) + 1
            if d.fallback is not None:
                self._metrics.fallbacks.labels(name, d.assigned.arm.name, d.fallback).inc()
        for arm, count in arms.items():
            self._metrics.decisions.labels(name, arm).inc(count)


@dataclass(slots=True, kw_only=True, eq=False)
class _Stacked:
    """Rows that were drawn one by one, as one batch."""

    action_proposed: F64
    action: F64
    propensity: F64
    probabilities: F64 | None
    state: F32 | None


def _stacked(rows: list[Drawn | None]) -> Drawn | None:
    fine = next((row for row in rows if row is not None), None)
    if fine is None:
        return None

    def column(name: str) -> Any:
        like = np.full_like(getattr(fine, name), np.nan)
        return np.concatenate([like if row is None else getattr(row, name) for row in rows])

    return _Stacked(
        action_proposed=column("action_proposed"),
        action=column("action"),
        propensity=column("propensity"),
        probabilities=None if fine.probabilities is None else column("probabilities"),
        state=None if fine.state is None else column("state"),
    )


def _finite(drawn: Drawn, *, remembers: bool) -> Bool:
    """Rows (n,) whose action and propensity are numbers, and what is remembered: a token of NaN would spoil all that follows."""
    proposed, action = np.isfinite(drawn.action_proposed).all(axis=1), np.isfinite(drawn.action).all(axis=1)
    good = np.asarray(proposed & action & np.isfinite(drawn.propensity), dtype=np.bool_)
    if remembers and drawn.state is not None:
        good &= np.isfinite(drawn.state).all(axis=1)
    return good


def _masks(asks: Sequence[Ask]) -> Bool | None:
    """The masks (n, m) of a group: all asks of an endpoint have one, or none has."""
    masks = [ask.mask for ask in asks if ask.mask is not None]
    return np.stack(masks) if masks else None


def _too_late(ask: Ask, *, started_s: float, ended_s: float) -> str | None:
    # What waited too long before its arm was even asked is no fault of the arm: it is told apart.
    if ask.deadline_s < started_s:
        return "overload"
    return "deadline" if ask.deadline_s < ended_s else None


def _decided(
    ask: Ask,
    assigned: assignment.Assignment,
    *,
    drawn: Drawn,
    row: int,
    policy: ServingPolicy,
    fallback: str | None,
    latency_us: int | None,
) -> Decided:
    own = policy.digest == assigned.arm.digest
    return Decided(
        ask=ask,
        assigned=assigned,
        action_proposed=drawn.action_proposed[row],
        action=drawn.action[row],
        action_json=policy.action_to_json(drawn.action[row]),
        propensity=float(drawn.propensity[row]),
        probabilities=None if drawn.probabilities is None else drawn.probabilities[row],
        fallback=fallback,
        latency_us=latency_us,
        state=drawn.state[row] if policy.state_size and own and drawn.state is not None else None,
    )


def _unanswered(ask: Ask, assigned: assignment.Assignment, *, fallback: str, latency_us: int | None) -> Decided:
    """Nobody could answer. Logged all the same: the failure is evidence about its arm."""
    nothing: F64 = np.empty(0)
    return Decided(
        ask=ask,
        assigned=assigned,
        action_proposed=nothing,
        action=nothing,
        action_json=None,
        propensity=0.0,
        probabilities=None,
        fallback=fallback,
        latency_us=latency_us,
        answered=False,
    )


def fingerprint(ask: Ask) -> bytes:
    """What makes two asks the same one."""
    token = "" if ask.remembered is None else ask.remembered.token
    told = f"{ask.unit}\0{ask.episode_id}\0{ask.step}\0{token}\0".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told + ask.row.tobytes(), digest_size=16).digest()


def _row(d: Decided, *, table: RouteTable, time_us: int) -> dict[str, Any]:
    ask, arm = d.ask, d.assigned.arm
    return {
        "decision_id": ask.decision_id,
        "endpoint": table.endpoint,
        "epoch": table.epoch,
        "time_us": time_us,
        "unit": ask.unit,
        "episode_id": ask.episode_id or ask.decision_id,
        "step": ask.step,
        "arm": arm.name,
        "version": arm.version,
        "bundle_digest": arm.digest,
        "observation": ask.row,
        "action_mask": ask.mask,
        "action_proposed": d.action_proposed,
        "action": d.action,
        "propensity": d.propensity,
        "probabilities": d.probabilities,
        "arm_probability": d.assigned.probability,
        "shield_modified": False,
        "fallback": d.fallback,
        "excluded": d.assigned.excluded,
        "latency_us": d.latency_us,
    }
