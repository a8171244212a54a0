"""TrainingView: a factored environment as many alike units that share one policy; what training and bundles need to know of it.

Implemented by a domain (envs/ran/training.py), found through `registry.training_view`, used by train and by export. Holds
no code that a bundle would need: program and decoder are data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np

from rlaas_ray.envs import modes
from rlaas_ray.policies import decoders
from rlaas_ray.policies import view as programs
from rlaas_ray.policies.preferences import Preference


class TrainingView(Protocol):
    """`units` rows an environment, row = environment * units + unit."""

    @property
    def units(self) -> int: ...

    @property
    def program(self) -> programs.ViewProgram:
        """From the flat observation to one row per unit."""
        ...

    @property
    def decoder(self) -> decoders.Decoder:
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


@runtime_checkable
class Weighable(TrainingView, Protocol):
    """A view whose units' rewards are linear in the weights, so that these may change from episode to episode."""

    def make_conditioned(
        self,
        *,
        num_envs: int,
        seed: int,
        first_index: int = 0,
        preference: Preference,
        config: Mapping[str, Any] | None = None,
    ) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """As `make_vector`, each unit's observation followed by the weights of its env's episode."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedView:
    """What training and bundles need to know of a view whose units observe the weights of a preference as well."""

    own: Weighable
    preference: Preference

    @property
    def units(self) -> int:
        """As the view."""
        return self.own.units

    @property
    def program(self) -> programs.ViewProgram:
        """From the flat observation and the weights to one row per unit."""
        return self.own.program.with_weights(self.preference.size)

    @property
    def decoder(self) -> decoders.Decoder:
        """As the view: the weights come last, so that what it reads stands where it stood."""
        return self.own.decoder

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Of one unit, followed by the weights."""
        own, size = self.own.observation_space, self.preference.size
        low = np.concatenate([own.low, np.zeros(size, np.float32)])
        high = np.concatenate([own.high, np.ones(size, np.float32)])
        return gymnasium.spaces.Box(low, high, dtype=np.float32)

    @property
    def action_space(self) -> gymnasium.spaces.Box:
        """As the view."""
        return self.own.action_space

    @property
    def preset(self) -> Mapping[str, Any]:
        """As the view."""
        return self.own.preset

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
        """Rows under weights that are drawn for each episode of an env."""
        return self.own.make_conditioned(
            num_envs=num_envs, seed=seed, first_index=first_index, preference=self.preference, config=config
        )
