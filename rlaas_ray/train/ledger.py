"""The ledger of one training: steps, episodes, the last 100 returns, running statistics, CPU seconds; and how far the budget is.

Kept on the driver by loop.py, read by runner.py for progress, written into checkpoints. Its 100-episode mean is the
only return that stop rules and reports see: RLlib's own is a moving average that can be NaN (trap T2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlaas_ray.specs.arrays import Array
from rlaas_ray.train import columns
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.plans import Plan

WINDOW = 100


@dataclass(slots=True, kw_only=True, eq=False)
class Ledger:
    """What has happened so far, over all attempts."""

    observations: Moments
    returns: Moments
    iteration: int = 0
    steps: int = 0
    rows: int = 0
    episodes: int = 0
    cpu_s: float = 0.0
    failures: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    lengths: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def episode_return_mean(self) -> float | None:
        """The mean return of the last 100 episodes (of all, before there are 100); None before the first."""
        return float(np.mean(self.recent)) if self.recent else None

    @property
    def episode_length_mean(self) -> float | None:
        """The same of lengths."""
        return float(np.mean(self.lengths)) if self.lengths else None

    def absorb(self, fragments: Sequence[Fragment]) -> None:
        """Count fragments in their order."""
        for fragment in fragments:
            self.steps += fragment.steps
            self.rows += fragment.rows
            self.episodes += len(fragment.episode_returns)
            self.recent.extend(fragment.episode_returns.tolist())
            self.lengths.extend(fragment.episode_lengths.tolist())
            self.observations = columns.merge(self.observations, fragment.observations)
            self.returns = columns.merge(self.returns, fragment.returns)

    def arrays(self) -> dict[str, Array]:
        """Everything, as arrays for a checkpoint."""
        return {
            "counts": np.array([self.iteration, self.steps, self.rows, self.episodes, self.failures], dtype=np.int64),
            "cpu_s": np.array([self.cpu_s]),
            "recent": np.array(self.recent, dtype=np.float64),
            "lengths": np.array(self.lengths, dtype=np.int64),
            "observations.count": np.array([self.observations.count, self.returns.count]),
            "observations.mean": self.observations.mean,
            "observations.deviations": self.observations.deviations,
            "returns.mean": self.returns.mean,
            "returns.deviations": self.returns.deviations,
        }


def new(width: int) -> Ledger:
    """Nothing has happened; `width` entries of an encoded observation."""
    return Ledger(observations=columns.no_moments(width), returns=columns.no_moments(1))


def from_arrays(arrays: dict[str, Array]) -> Ledger:
    """The inverse of `Ledger.arrays`."""
    iteration, steps, rows, episodes, failures = (int(n) for n in arrays["counts"])
    seen = arrays["observations.count"]
    return Ledger(
        observations=Moments(
            count=float(seen[0]),
            mean=arrays["observations.mean"].astype(np.float64),
            deviations=arrays["observations.deviations"].astype(np.float64),
        ),
        returns=Moments(
            count=float(seen[1]),
            mean=arrays["returns.mean"].astype(np.float64),
            deviations=arrays["returns.deviations"].astype(np.float64),
        ),
        iteration=iteration,
        steps=steps,
        rows=rows,
        episodes=episodes,
        failures=failures,
        cpu_s=float(arrays["cpu_s"][0]),
        recent=deque((float(x) for x in arrays["recent"]), maxlen=WINDOW),
        lengths=deque((int(x) for x in arrays["lengths"]), maxlen=WINDOW),
    )


def fraction(ledger: Ledger, *, plan: Plan) -> float:
    """How much of the budget is used, in [0, 1]; schedules follow it."""
    used = [
        done / limit
        for done, limit in (
            (ledger.steps, plan.total_timesteps),
            (ledger.episodes, plan.total_episodes),
            (ledger.cpu_s, plan.time_limit_cpu_s),
        )
        if limit is not None
    ]
    return min(1.0, max(used, default=0.0))


def finished(ledger: Ledger, *, plan: Plan) -> bool:
    """Whether the budget is used, or the return asked for is reached over 100 whole episodes."""
    if fraction(ledger, plan=plan) >= 1.0:
        return True
    reached = ledger.episode_return_mean
    return (
        plan.stop_at_return is not None
        and len(ledger.recent) == WINDOW
        and reached is not None
        and reached >= plan.stop_at_return
    )
