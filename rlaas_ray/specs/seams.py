"""The seams: protocols that a real thing and its shipped twin both keep; `tests/contracts` has one suite for each.

Implemented by data, store, serve, jobs, sdk and testing; handed in by wiring. A protocol says what is promised, not how.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlaas_ray.specs.arrays import F32, F64
from rlaas_ray.specs.log import Cut, Decisions, Rewards
from rlaas_ray.specs.runs import Progress, Run, RunState


class Clock(Protocol):
    """Time, handed in. `settings.SystemClock` is real, `testing.clock.ManualClock` moves when told."""

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds of a clock that never steps, for durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Blocks this thread."""
        ...


class Policy(Protocol):
    """Observation batch -> action distribution. `distribution` takes encoded observations (n, d), gives parameters (n, k)."""

    def distribution(self, observations: F32) -> F32: ...


class Recurrent(Policy, Protocol):
    """A policy that remembers: `step` takes observations (n, d) and states (n, s), gives parameters (n, k) and new states."""

    def step(self, observations: F32, states: F32) -> tuple[F32, F32]: ...


class DecisionLog(Protocol):
    """Reading what replicas wrote. A torn tail is left for the next read; the same cut gives the same rows, sealed or not."""

    def read(self, endpoint: str, *, after: Cut, until: Cut | None = None) -> tuple[Decisions, Rewards, Cut]:
        """Rows beyond `after` (up to `until`, else all that is there), in order (time_us, decision_id), and the new cut."""
        ...


class Reporter(Protocol):
    """A running attempt tells the control API how it goes. Raises LostLease when somebody else owns the run."""

    def claim(self) -> Run:
        """Take the attempt: the run goes to `running`."""
        ...

    def beat(self, progress: Progress) -> RunState:
        """Heartbeat; the answer is the run's state (`stopping`: checkpoint and end)."""
        ...

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event; kept and sent again when the API is away."""
        ...

    def metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        """Append metric rows; each has `step` and `time_us`."""
        ...

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        """The final state of this attempt."""
        ...

    def register(self, bundle: Path, *, name: str, evaluation: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Register the bundle as a version of `name`; gives the version's document."""
        ...


class Place(Protocol):
    """Where a run executes. `submit` is idempotent on run id + attempt."""

    def submit(self, run: Run, *, key: str) -> str:
        """Start the attempt; gives the reference that the other calls take."""
        ...

    def alive(self, ref: str) -> bool:
        """Whether the attempt's process still exists."""
        ...

    def stop(self, ref: str, *, grace_s: float) -> None:
        """Ask the attempt to checkpoint and end; end it after `grace_s`."""
        ...

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        """Lines of the attempt's output."""
        ...

    def tend(self) -> None:
        """Asked each second: start again what the place itself keeps and what died. Most places keep nothing."""
        return


class Pools(Protocol):
    """Policy pools on Serve, met from outside Ray."""

    def apply(self, pool: str) -> None:
        """Deploy the pool, or bring it to its settings; idempotent."""
        ...

    def delete(self, pool: str) -> None:
        """Remove the pool's app."""
        ...

    def running(self) -> Mapping[str, str]:
        """Pool -> status, as Serve tells it."""
        ...

    def head_id(self) -> str | None:
        """An id that changes when the Ray head is a new one; None while there is none."""
        ...


class Mirror(Protocol):
    """MLflow, or nothing: told after our commit, never asked for a fact."""

    def run(self, run: Run, *, metrics: Mapping[str, F64]) -> None:
        """Mirror a run's parameters, state and metric columns."""
        ...

    def version(self, document: Mapping[str, Any]) -> None:
        """Mirror a registered version and its aliases."""
        ...


class ChatModel(Protocol):
    """A language model that answers in text. Knows its endpoint, its key and its time-outs itself."""

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, temperature: float, max_tokens: int, deadline_s: float
    ) -> str:
        """The answer to messages of `role` and `content`, within `deadline_s` altogether.

        Raises Unavailable, its `given` the reason in a word: timeout, connection, unauthorized, rate_limited, server_error, ...
        """
        ...
