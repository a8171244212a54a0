"""Rewards: valid, told apart from duplicates and conflicts as far as this process knows, and written down before the 202.

Called by `answer.py`. Across processes the reader of the log keeps the first value of a key; never joins with decisions,
and takes a reward of any age: `evaluation/outcomes.py` says which are late.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from typing import Any

from rlaas_ray.data import schema
from rlaas_ray.errors import InvalidInput, Unavailable
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve import wire
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.seams import Clock

KNOWN = frozenset({"decision_id", "reward", "step", "done", "truncated", "time"})
KEPT = 100_000
_Value = tuple[float, bool, bool]


class RewardTaker:
    """The rewards of one process."""

    def __init__(self, *, writer: DecisionWriter, clock: Clock, metrics: ServingMetrics) -> None:
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._seen: OrderedDict[tuple[str, str, int], _Value] = OrderedDict()

    def take(self, endpoint: str, *, body: dict[str, Any]) -> dict[str, Any]:
        """The body of the 202. An item that is malformed refuses the whole request; a conflict only itself."""
        items, batched = wire.rows(body)
        parsed = [_parse(item, where=f"/batch/{i}" if batched else "") for i, item in enumerate(items)]
        fresh: dict[tuple[str, str, int], _Value] = {}
        rejected: list[dict[str, Any]] = []
        duplicate = 0
        for index, (decision_id, step, value) in enumerate(parsed):
            key = (endpoint, decision_id, step)
            kept = self._seen.get(key, fresh.get(key))
            if kept is None:
                fresh[key] = value
            elif kept == value:
                duplicate += 1
            else:
                detail = f"decision {decision_id!r}, step {step}: given {value[0]}, already kept {kept[0]}"
                rejected.append({"index": index, "status": 409, "title": "reward conflict", "detail": detail})
        if fresh:
            self._write(endpoint, fresh=fresh)
        for outcome, count in (("accepted", len(fresh)), ("duplicate", duplicate), ("conflict", len(rejected))):
            self._metrics.rewards.labels(endpoint, outcome).inc(count)
        return {"accepted": len(fresh), "duplicate": duplicate, "rejected": rejected}

    def _write(self, endpoint: str, *, fresh: dict[tuple[str, str, int], _Value]) -> None:
        time_us = self._clock.now_us()
        rows = [
            {
                "decision_id": decision_id,
                "step": step,
                "reward": reward,
                "done": done,
                "truncated": truncated,
                "time_us": time_us,
            }
            for (_, decision_id, step), (reward, done, truncated) in fresh.items()
        ]
        if not self._writer.append("rewards", endpoint=endpoint, rows=rows, form=schema.REWARDS):
            raise Unavailable(
                "rewards cannot be written down now", cure="Send them again in a moment: a repeat does no harm."
            )
        self._seen.update(fresh)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)


def _parse(item: dict[str, Any], *, where: str) -> tuple[str, int, _Value]:
    wire.known_only(item, known=KNOWN, where=where)
    decision_id = wire.string(item, "decision_id", where=where, longest=128)
    if decision_id is None:
        raise wire.required("decision_id", where=where)
    reward = wire.number(item, "reward", where=where)
    if reward is None:
        raise wire.required("reward", where=where)
    step = wire.whole(item, "step", where=where) or 0
    _check_time(wire.string(item, "time", where=where), where=where)
    return (
        decision_id,
        step,
        (reward, wire.truth(item, "done", where=where), wire.truth(item, "truncated", where=where)),
    )


def _check_time(given: str | None, *, where: str) -> None:
    # The server's clock orders the log; the client's time is checked, so that a later use of it finds no rubbish.
    if given is None:
        return
    try:
        dt.datetime.fromisoformat(given)
    except ValueError:
        raise InvalidInput(
            "field 'time'", given=given, expected="RFC 3339, e.g. 2026-01-31T12:00:00Z", pointer=f"{where}/time"
        ) from None
