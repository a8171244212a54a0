"""TrainingView: a factored environment as many alike units that share one policy; what training and bundles need to know of it.

Implemented by a domain (envs/ran/training.py), found through `registry.training_view`, used by train and by export. Holds
no code that a bundle would need: program and decoder are data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium

from rlaas_ray.envs import modes
from rlaas_ray.policies import decoders
from rlaas_ray.policies import view as programs


class TrainingView(Protocol):
    """`units` rows an environment, row = environment * units + unit."""

    @property
    def units(self) -> int: ...

    @property
    def program(self) -> programs.ViewProgram:
        """From the flat observation to one row per unit."""
        ...

    @property
    def decoder(self) -> decoders.TargetDelta:
        """From the units' proposals, flat (n, units * a), to the environment's action."""
        ...

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Of one unit."""
        ...

    @property
    def action_space(self) -> gymnasium.spaces.Box:
        """Of one unit; unbounded, because the decoder clips."""
        ...

    @property
    def preset(self) -> Mapping[str, Any]:
        """TrainSpec fields (and the trainer's own: share, scale_rewards, policy_gain) that are measured to learn."""
        ...

    def make_vector(
        self,
        *,
        num_envs: int,
        seed: int,
        first_index: int = 0,
        mode: str | None = None,
        weights: modes.Given | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """num_envs * units rows with the units' own rewards; rows never end.

        `info["env_reward"]` float64 (num_envs,) and `info["env_done"]` bool (num_envs,) tell of the whole environments'
        true episodes.
        """
        ...
