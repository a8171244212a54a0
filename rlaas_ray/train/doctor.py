"""The doctor of a training: what its own numbers say is going wrong, each finding with its cure. Pure; asks nobody.

Fed by runner.py with the rows that it reports, and by `rlaas runs doctor` with those of a run. A finding is told once.
Thresholds are rules of thumb, their source beside them; a finding is a hint, never an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Row = Mapping[str, float | int | None]

WINDOW = 10  # rows that a judgement looks at
KL_HIGH = 0.05  # PPO's usual target is 0.01-0.02 (Schulman et al. 2017; OpenAI's Spinning Up)
CLIPPED_HIGH = 0.4
ENTROPY_LEFT = 0.05  # of what it was at the start
VALUES_GROW = 100.0  # vf_loss over its own median at the start
DEAD_HIGH = 0.5
BOUND = 0.8  # share of an iteration
Q_GROWS = 50.0
STALE_HIGH = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`name` is stable, for programs; `words` has the numbers; `cure` says what to try first."""

    name: str
    words: str
    cure: str

    def to_json(self) -> dict[str, str]:
        """As an event carries it."""
        return {"name": self.name, "words": self.words, "cure": self.cure}


class Doctor:
    """Keeps a run's rows (the first few and the last few) and what it has already said."""

    def __init__(self) -> None:
        self._first: list[Row] = []
        self._last: list[Row] = []
        self._told: dict[str, Finding] = {}

    @property
    def findings(self) -> list[Finding]:
        """All so far."""
        return list(self._told.values())

    def look(self, row: Row) -> list[Finding]:
        """What this row shows that was not said before."""
        if len(self._first) < WINDOW:
            self._first.append(row)
        self._last = [*self._last[-WINDOW + 1 :], row]
        fresh = [finding for finding in diagnose(self._first, self._last) if finding.name not in self._told]
        self._told |= {finding.name: finding for finding in fresh}
        return fresh


def review(columns: Mapping[str, Sequence[float | None]]) -> list[Finding]:
    """Findings over a whole run, from its metric columns (those of `GET /runs/{id}/metrics`)."""
    doctor = Doctor()
    count = max((len(column) for column in columns.values()), default=0)
    for index in range(count):
        doctor.look({name: column[index] for name, column in columns.items() if index < len(column)})
    return doctor.findings


def diagnose(first: Sequence[Row], last: Sequence[Row]) -> list[Finding]:
    """Findings from a run's first rows and its last ones."""
    found = [
        _not_finite(last),
        _entropy(first, last),
        _kl(last),
        _clipped(last),
        _values(first, last),
        _q(first, last),
        _dead(last),
        _stale(last),
        _bound(last),
    ]
    return [finding for finding in found if finding is not None]


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(value) for row in rows if (value := row.get(name)) is not None and math.isfinite(value)]


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _not_finite(last: Sequence[Row]) -> Finding | None:
    names = {name for row in last[-1:] for name, value in row.items() if value is not None and not math.isfinite(value)}
    if not names:
        return None
    return Finding(
        name="not_finite",
        words=f"{', '.join(sorted(names))} is NaN or infinite",
        cure="Lower learning_rate tenfold; look at the scale of rewards and observations (`rlaas env check`).",
    )


def _entropy(first: Sequence[Row], last: Sequence[Row]) -> Finding | None:
    before, now = _column(first, "entropy"), _column(last, "entropy")
    returns = _column(last, "episode_return_mean")
    if len(now) < WINDOW or not before or before[0] <= 0 or max(now) >= ENTROPY_LEFT * before[0]:
        return None
    improving = len(returns) >= 2 and returns[-1] > returns[0] + 0.01 * abs(returns[0])
    if improving:
        return None  # a policy that has found its answer is sure of it
    return Finding(
        name="entropy_collapse",
        words=f"entropy fell from {before[0]:.3g} to {now[-1]:.3g} while the return stands still",
        cure="Raise entropy_coefficient (0.01 is usual), or lower learning_rate.",
    )


def _kl(last: Sequence[Row]) -> Finding | None:
    values = _column(last, "mean_kl")
    if len(values) < WINDOW or _median(values) <= KL_HIGH:
        return None
    return Finding(
        name="kl_high",
        words=f"mean KL of an update is {_median(values):.3g}, over {KL_HIGH}",
        cure="Lower learning_rate or epochs, or raise batch_size.",
    )


def _clipped(last: Sequence[Row]) -> Finding | None:
    values = _column(last, "clipped_share")
    if len(values) < WINDOW or _median(values) <= CLIPPED_HIGH:
        return None
    return Finding(
        name="clipped",
        words=f"{_median(values):.0%} of the rows lie beyond the clip and teach nothing",
        cure="Lower epochs or learning_rate.",
    )


def _values(first: Sequence[Row], last: Sequence[Row]) -> Finding | None:
    before, now = _column(first, "vf_loss"), _column(last, "vf_loss")
    if len(before) < WINDOW or len(now) < WINDOW or _median(now) <= VALUES_GROW * max(_median(before), 1e-6):
        return None
    return Finding(
        name="values_explode",
        words=f"vf_loss grew from {_median(before):.3g} to {_median(now):.3g}",
        cure="Scale the rewards, lower gamma or learning_rate.",
    )


def _q(first: Sequence[Row], last: Sequence[Row]) -> Finding | None:
    before, now = _column(first, "q_mean"), _column(last, "q_mean")
    reached = _column(last, "episode_return_mean")
    if len(before) < WINDOW or len(now) < WINDOW or not reached:
        return None
    bound = Q_GROWS * max(1.0, abs(_median(reached)), abs(_median(before)))
    if abs(_median(now)) <= bound:
        return None
    return Finding(
        name="values_explode",
        words=f"Q is {_median(now):.3g} where an episode earns {_median(reached):.3g}",
        cure="Lower learning_rate or tau, use double (DQN) or td3 instead of ddpg; scale the rewards.",
    )


def _dead(last: Sequence[Row]) -> Finding | None:
    values = _column(last, "dead_units")
    if len(values) < WINDOW // 2 or _median(values) <= DEAD_HIGH:
        return None
    return Finding(
        name="dead_units",
        words=f"{_median(values):.0%} of the hidden units give the same for every observation",
        cure="Lower learning_rate, use activation tanh or silu, or set normalise_observations.",
    )


def _stale(last: Sequence[Row]) -> Finding | None:
    values = _column(last, "staleness_mean")
    if len(values) < WINDOW or _median(values) <= STALE_HIGH:
        return None
    return Finding(
        name="stale",
        words=f"the policy that acts lies {_median(values):.0f} updates behind",
        cure="Fewer env runners, fewer requests_in_flight, or a larger batch_size.",
    )


def _bound(last: Sequence[Row]) -> Finding | None:
    shares = _column(last, "sample_share")
    if len(shares) < WINDOW:
        return None
    share = _median(shares)
    if share >= BOUND:
        return Finding(
            name="sampling_bound",
            words=f"{share:.0%} of the time goes into sampling",
            cure="More num_envs_per_runner, or more num_env_runners where there are cores; `rlaas env bench` times the env.",
        )
    if share <= 1 - BOUND:
        return Finding(
            name="learner_bound",
            words=f"{1 - share:.0%} of the time goes into learning",
            cure="Fewer epochs, a smaller network, or a GPU (num_learners: 1, gpus_per_learner: 1); more runners will not help.",
        )
    return None
