"""What may be done to a live cluster, when a call is tried again, and when to stop: pure rules, times handed in.

Called by kubernetes.py before and after each call and by edge.py before each operation. Never calls anything, never sleeps.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import I64

PROTECTED = ("default", "kube-*")
_NOW = 1e-6  # seconds: two readings of a clock that should be one period apart


@dataclass(frozen=True)
class Limits:
    """Bounds of everything that is done live. Times in seconds."""

    period_s: float = 30.0  # at most one operation of a service within it
    pods_per_node: int = 16  # of one service
    failures: int = 3  # so many failed calls ...
    window_s: float = 300.0  # ... within this time end all patching
    timeout_s: float = 10.0  # of one call
    retries: int = 3
    backoff_s: float = 0.5  # before the first retry; doubles
    longest_wait_s: float = 60.0  # a Retry-After beyond it is a failure, not a wait


@dataclass(frozen=True)
class Failures:
    """When calls failed (seconds of a monotonic clock). `stopped` stays once it is true."""

    at_s: tuple[float, ...] = ()
    stopped: bool = False


@dataclass(frozen=True)
class Counts:
    """Pods of S services on N nodes, each (S, N): ready, not ready yet, and ready ones whose removal waits for a move."""

    ready: I64
    starting: I64
    leaving: I64


@dataclass(frozen=True)
class Operation:
    """One change of placement: a pod more at `target`, a pod less at `source`, or both (a move). Indices."""

    service: int
    target: int | None = None
    source: int | None = None


def admit_namespace(namespace: str, *, allowed: str | None) -> None:
    """Raises InvalidInput for `default` and `kube-*` unless `allowed` names exactly this namespace."""
    if any(fnmatch.fnmatchcase(namespace, pattern) for pattern in PROTECTED) and namespace != allowed:
        raise InvalidInput(
            "namespace of a live environment",
            given=namespace,
            expected="a namespace of its own, not default or kube-*",
            cure=f"Deploy the services to their own namespace, or insist with allow_namespace={namespace!r}.",
        )


def after_failure(failures: Failures, *, now_s: float, limits: Limits) -> Failures:
    """One more failed call, at `now_s`."""
    recent = (*(one for one in failures.at_s if now_s - one < limits.window_s), now_s)
    return dataclasses.replace(failures, at_s=recent, stopped=failures.stopped or len(recent) >= limits.failures)


def wait_s(*, attempt: int, status: int | None, retry_after: str | None, limits: Limits) -> float | None:
    """Seconds to wait before trying a call again, None for not at all.

    `attempt` counts from 0; `status` None is a timeout or a dropped connection. Only 429, 5xx and those are tried again.
    """
    again = status is None or status == 429 or 500 <= status <= 599
    if not again or attempt >= limits.retries:
        return None
    asked = float(retry_after) if retry_after is not None and retry_after.strip().isdigit() else 0.0
    wait: float = max(asked, limits.backoff_s * 2.0**attempt)
    return wait if wait <= limits.longest_wait_s else None


def refusal(
    operation: Operation, *, counts: Counts, since_last_s: float | None, limits: Limits, failures: Failures
) -> str | None:
    """Why the operation is not done now, or None. `since_last_s`: since the last operation of this service."""
    if failures.stopped:
        return f"patches have stopped after {limits.failures} failed calls within {limits.window_s:g} s"
    if since_last_s is not None and since_last_s < limits.period_s - _NOW:
        return f"the service was changed {since_last_s:.0f} s ago, one operation per {limits.period_s:g} s is allowed"
    s = operation.service
    if operation.target is not None:
        there = int(counts.ready[s, operation.target] + counts.starting[s, operation.target])
        if there >= limits.pods_per_node:
            return f"{there} pods of the service are on the target, the limit is {limits.pods_per_node}"
        if counts.leaving[s, operation.target] > 0:
            return "a pod of the service is moving away from the target"
    return None if operation.source is None else _keeps(operation, counts=counts)


def _keeps(operation: Operation, *, counts: Counts) -> str | None:
    s, source = operation.service, operation.source
    if counts.ready[s, source] - counts.leaving[s, source] < 1:
        return "no ready pod of the service at the source is free to go"
    if counts.starting[s, source] > 0:
        return "a pod is starting at the source, and a ReplicaSet would remove that one first"
    if operation.target is None and counts.ready[s].sum() <= 1:
        return "it is the last ready pod of the service"
    return None


def may_finish(*, service: int, source: int, counts: Counts) -> bool:
    """Whether the source's pod of a move may go: the target's is ready (the caller saw it) and another ready pod remains."""
    return bool(counts.ready[service, source] >= 1 and counts.ready[service].sum() >= 2)
