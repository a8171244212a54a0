"""How fast an environment steps: its vector form against Gymnasium's SyncVectorEnv of the same environment.

Called by `rlaas env bench` and the benchmarks. The clock is handed in; CPU time where the caller's clock is CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import registry, vector

_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Microseconds an environment step, in the vector form, one by one, and to copy its state once (nan where it is unknown)."""

    env: str
    num_envs: int
    vector_us: float
    sync_us: float
    copy_us: float

    @property
    def ratio(self) -> float:
        """How many times faster the vector form is."""
        return self.sync_us / self.vector_us


def measure(
    env: str,
    *,
    num_envs: int,
    clock_s: Callable[[], float],
    seconds: float = 1.0,
    config: Mapping[str, Any] | None = None,
) -> Speed:
    """Step both forms with the same random actions for about `seconds` each, by turns."""
    worlds = registry.make_vector(env, num_envs=num_envs, seed=0, config=config)
    single = gymnasium.vector.SyncVectorEnv([lambda: registry.make(env, config=config)] * num_envs)
    runs = [_Run(worlds), _Run(single)]
    for _ in range(_ROUNDS):
        for run in runs:
            run.go(clock_s, seconds=seconds / _ROUNDS)
    copy_us = _copy_us(worlds, clock_s=clock_s, seconds=seconds / _ROUNDS)
    for run in runs:
        run.worlds.close()
    return Speed(env=env, num_envs=num_envs, vector_us=runs[0].step_us, sync_us=runs[1].step_us, copy_us=copy_us)


class _Run:
    """One form under test; its actions are drawn before, because sampling is not the environment's cost."""

    def __init__(self, worlds: Any) -> None:
        self.worlds, self.steps, self.spent_s = worlds, 0, 0.0
        worlds.reset(seed=0)
        worlds.action_space.seed(0)
        self._actions = [worlds.action_space.sample() for _ in range(8)]
        worlds.step(self._actions[0])

    def go(self, clock_s: Callable[[], float], *, seconds: float) -> None:
        began, spent = clock_s(), 0.0
        while spent < seconds:
            self.worlds.step(self._actions[self.steps % len(self._actions)])
            self.steps += 1
            spent = clock_s() - began
        self.spent_s += spent

    @property
    def step_us(self) -> float:
        return self.spent_s / (self.steps * int(self.worlds.num_envs)) * 1e6


def _copy_us(worlds: Any, *, clock_s: Callable[[], float], seconds: float) -> float:
    """One pass over the arrays of the state, read and written: what memory alone would cost."""
    if not isinstance(worlds, vector.DomainVectorEnv):
        return float("nan")
    state = worlds.state()
    target = {name: np.empty_like(value) for name, value in state.items()}
    passes, began, spent = 0, clock_s(), 0.0
    while spent < seconds:
        for name, value in state.items():
            np.copyto(target[name], value)
        passes += 1
        spent = clock_s() - began
    return spent / (passes * worlds.num_envs) * 1e6
