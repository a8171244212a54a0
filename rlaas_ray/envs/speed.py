"""How fast an environment steps: its vector form against Gymnasium's SyncVectorEnv of the same environment.

Called by `rlaas env bench` and the benchmarks. The clock is handed in; CPU time where the caller's clock is CPU time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from rlaas_ray.envs import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Microseconds an environment step, in the vector form and one by one, and their ratio."""

    env: str
    num_envs: int
    vector_us: float
    sync_us: float

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
    """Step both forms with the same random actions for about `seconds` each."""
    worlds = registry.make_vector(env, num_envs=num_envs, seed=0, config=config)
    single = gymnasium.vector.SyncVectorEnv([lambda: registry.make(env, config=config)] * num_envs)
    return Speed(
        env=env,
        num_envs=num_envs,
        vector_us=_step_us(worlds, clock_s=clock_s, seconds=seconds),
        sync_us=_step_us(single, clock_s=clock_s, seconds=seconds),
    )


def _step_us(worlds: Any, *, clock_s: Callable[[], float], seconds: float) -> float:
    worlds.reset(seed=0)
    worlds.action_space.seed(0)
    actions = [worlds.action_space.sample() for _ in range(8)]  # drawn before: sampling is not the environment's cost
    worlds.step(actions[0])
    steps, began = 0, clock_s()
    while (spent := clock_s() - began) < seconds:
        worlds.step(actions[steps % len(actions)])
        steps += 1
    worlds.close()
    found: float = spent / (steps * worlds.num_envs) * 1e6
    return found
