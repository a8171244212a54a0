"""Run: one execution of a spec, its states and the only moves between them; Version: a registered bundle.

Used by store (rows), control (use cases), jobs (places) and every door. Pure: a move is a table look-up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlaas_ray.errors import Conflict

RunKind = Literal["train", "tune", "optimize", "evaluate"]
RunState = Literal["queued", "running", "succeeded", "failed", "stopping", "stopped"]
ENDED: frozenset[RunState] = frozenset({"succeeded", "failed", "stopped"})

# The whole state machine; `queued` from an ended state is resume (attempt + 1).
MOVES: dict[RunState, frozenset[RunState]] = {
    "queued": frozenset({"running", "stopped", "failed"}),
    "running": frozenset({"succeeded", "failed", "stopping", "stopped"}),
    "stopping": frozenset({"stopped", "failed", "succeeded"}),
    "failed": frozenset({"queued"}),
    "stopped": frozenset({"queued"}),
    "succeeded": frozenset(),
}


def check_move(before: RunState, after: RunState, *, run_id: str) -> None:
    """Raises Conflict unless `before -> after` is in MOVES."""
    if after not in MOVES[before]:
        raise Conflict(
            f"run {run_id} cannot go from {before} to {after}",
            given=after,
            expected=" or ".join(sorted(MOVES[before])) or "no further state",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is. `fraction` in [0, 1]; `eta_s` and `episode_return_mean` are None while unknown, never NaN."""

    fraction: float = 0.0
    steps: int = 0
    steps_total: int | None = None
    steps_per_s: float | None = None
    eta_s: float | None = None
    episode_return_mean: float | None = None
    episodes: int = 0
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run; `seq` counts from 1 in each run."""

    seq: int
    attempt: int
    time_us: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One row of `runs`; `spec` is the document as JSON, the same on every place."""

    id: str
    kind: RunKind
    name: str | None
    spec: dict[str, Any]
    spec_digest: str
    seed: int
    state: RunState
    epoch: int
    attempt: int
    place: str
    created_us: int
    place_ref: str | None = None
    owner_key: str | None = None
    started_us: int | None = None
    ended_us: int | None = None
    lease_until_us: int | None = None
    progress: Progress = field(default_factory=Progress)
    error: dict[str, Any] | None = None
    checkpoint_uri: str | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered bundle, as `--json` prints it."""

    name: str
    number: int
    digest: str
    aliases: tuple[str, ...]
    path: str
    created_us: int
    run_id: str | None = None
    evaluation: dict[str, Any] | None = None

    @property
    def ref(self) -> str:
        """`NAME:NUMBER`, the form that route tables and logs carry."""
        return f"{self.name}:{self.number}"
