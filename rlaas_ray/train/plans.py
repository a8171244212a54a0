"""The plan of a training, nothing left open: the part that every algorithm has, and how a spec's budget becomes one.

Each family's plan extends it. Pure; never makes an env.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaas_ray.specs.train import TrainSpec

BUDGETS = ("total_timesteps", "total_episodes", "time_limit_cpu_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training with nothing left open."""

    env: str
    algorithm: str
    seed: int
    envs: int  # of each runner
    steps: int  # T, of a fragment
    gamma: float
    normalise_observations: bool
    num_env_runners: int
    num_learners: int
    gpus_per_learner: float
    serving: str | None
    total_timesteps: int | None
    total_episodes: int | None
    time_limit_cpu_s: float | None
    stop_at_return: float | None

    @property
    def batch(self) -> int:
        """Env steps of one iteration, over all runners."""
        return max(1, self.num_env_runners) * self.envs * self.steps

    @property
    def slice_s(self) -> float:
        """Seconds of iterations between checkpoints that are due at once; 0: one iteration."""
        return 0.0

    @property
    def actors(self) -> int:
        """Ray actors that this training wants; none: it runs in one process, without Ray."""
        return self.num_env_runners + self.num_learners


def budgets(spec: TrainSpec, *, preset: Mapping[str, Any], default_steps: int) -> dict[str, Any]:
    """The three budgets: whoever names one means that one; else the env's preset; else `default_steps` env steps."""
    for source in ({name: getattr(spec, name) for name in BUDGETS}, {name: preset.get(name) for name in BUDGETS}):
        if any(value is not None for value in source.values()):
            return source
    return {"total_timesteps": default_steps, "total_episodes": None, "time_limit_cpu_s": None}


def linear(start: float, end: float, *, used: float) -> float:
    """Linear in the budget used."""
    return start + (end - start) * used
