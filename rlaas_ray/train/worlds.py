"""Worlds: the vector env that a spec names, flat or as a shared view, with its encoder and decoder; a value that travels to actors.

Made by runner.py, opened by sampler.py. Never steps anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium

from rlaas_ray.policies import decoders, spaces
from rlaas_ray.specs.arrays import F32, F64, Array

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worlds:
    """What to make envs of. With `units` > 1 a row is a unit of an env, and spaces are those of one unit."""

    env: str
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    mode: str | None = None
    weights: tuple[float, ...] | None = None
    units: int = 1
    shared: bool = False

    def make(self, *, envs: int, seed: int, first_index: int) -> VectorEnv:
        """A vector env of `envs` envs (envs * units rows)."""
        return gymnasium.make_vec(self.env, num_envs=envs)

    def encode(self, observations: Any) -> F32:
        """Raw batch -> (rows, d)."""
        return spaces.encode(self.observation_space, observations)

    def encode_one(self, observation: Any) -> F32:
        """One raw observation -> (d,)."""
        return spaces.encode(self.observation_space, [observation])[0]

    def decode(self, proposed: Array, *, observations: F32) -> Array:
        """Proposed actions (rows, a) -> what the vector env takes."""
        wide: F64 = proposed.astype("float64")
        executed = decoders.for_action_space(self.action_space).decode(wide, observations=observations)
        return spaces.actions(self.action_space, executed)
