"""An environment of your own, whole: a room, a heater with three levels, a price that changes by the hour.

    rlaas env check examples.thermostat:Thermostat
    rlaas train --env examples.thermostat:Thermostat --set total_timesteps=60000 --name thermostat

Nothing here knows about this product: any Gymnasium class works, with any observation of boxes, discrete values and dicts.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LEVELS_KW = (0.0, 1.5, 3.0)
COMFORT_C = (20.0, 22.0)


class Thermostat(gymnasium.Env[dict[str, Any], int]):
    """One day in steps of 15 minutes. Observation: temperatures and hour, and whether power is expensive now."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "climate": spaces.Box(np.array([-20, -20, -1, -1], np.float32), np.array([40, 40, 1, 1], np.float32)),
                "expensive": spaces.Discrete(2),
            }
        )
        self.action_space = spaces.Discrete(len(LEVELS_KW))
        self._step = 0
        self._inside_c = self._outside_c = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        self._inside_c = float(self.np_random.uniform(15, 22))
        self._outside_c = float(self.np_random.uniform(-5, 8))
        return self._observe(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        power_kw = LEVELS_KW[int(action)]
        self._outside_c += float(self.np_random.normal(0, 0.2))
        self._inside_c += 0.5 * power_kw - 0.04 * (self._inside_c - self._outside_c)
        price = 0.4 if self._expensive() else 0.1
        discomfort_c = max(COMFORT_C[0] - self._inside_c, self._inside_c - COMFORT_C[1], 0.0)
        reward = -discomfort_c - price * power_kw
        self._step += 1
        return self._observe(), reward, False, self._step >= 96, {}

    def _expensive(self) -> bool:
        return 28 <= self._step < 40 or 68 <= self._step < 84

    def _observe(self) -> dict[str, Any]:
        angle = 2 * np.pi * self._step / 96
        climate = np.array([self._inside_c, self._outside_c, np.sin(angle), np.cos(angle)], np.float32)
        return {
            "climate": np.clip(climate, self.observation_space["climate"].low, self.observation_space["climate"].high),
            "expensive": int(self._expensive()),
        }
