"""What a quickstart saw, as values: the one thing that its report, its summary and its JSON are made of.

Filled by quickstart.py from what the product answered; read by report.py. Holds no rounding and no words that are not
the product's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A policy's return on whole episodes. `source`: measured in this run, or prepared beforehand (REFERENCE.json).

    `score` has random at 0 and the reference at 100; `gain` (mean, low, high) is against the heuristic on the same worlds.
    """

    name: str
    mean: float
    low: float
    high: float
    episodes: int
    source: str
    score: float | None = None
    gain: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """The training as its run reported it: environment steps, seconds, true mean of the last 100 episodes."""

    steps: tuple[int, ...]
    elapsed_s: tuple[float, ...]
    returns: tuple[float | None, ...]
    algorithm: str
    seconds: float
    total_steps: int
    episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Decisions that the client got, by second since the rollout's start and by arm."""

    second: tuple[int, ...]
    champion: tuple[int, ...]
    challenger: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One rollout from start to verdict. `evidence` rows are what the judge recorded, `t` in seconds since the start.

    `harmed` counts all decisions that the challenger answered;
    `verdict_s` is when the client saw the end. `spec` is the RolloutSpec, `verdict` the product's document.
    """

    name: str
    champion: str
    challenger: str
    state: str
    verdict: Mapping[str, Any] | None
    evidence: tuple[Mapping[str, float], ...]
    traffic: Traffic
    decisions: int
    harmed: int
    failures: int
    seconds: float
    verdict_s: float | None
    reward_low: float
    reward_high: float
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything, in the order in which it happened."""

    env: str
    mode: str
    seed: int
    fast: bool
    started: str
    seconds: float
    scores: tuple[Score, ...]
    learning: Learning
    front: Mapping[str, Any]
    canary: Trial
    rollback: Trial
    phases: tuple[tuple[str, float], ...]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    reference: Mapping[str, Any]
    picture: bytes  # the env under the trained policy, PNG

    def to_json(self) -> dict[str, Any]:
        """JSON values; the picture is the report's alone."""
        return {name: value for name, value in asdict(self).items() if name != "picture"}

    def score(self, name: str) -> Score | None:
        """The row of a policy."""
        return next((row for row in self.scores if row.name == name), None)


# What each e-value must reach. One over its share of alpha; promotion at 1/0.05.
def limits(alpha: float) -> dict[str, float]:
    """Evidence that a verdict needs: reward takes half of alpha, failures and latency a quarter each."""
    return {"reward": 2 / alpha, "failure": 4 / alpha, "latency": 4 / alpha, "promote": 20.0}
