"""A user's own reward, `reward: module:function`, over the objectives of one of our environments.

Wraps a domain; called by registry.py. The function is the user's code: whatever it gives is checked at every step.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import philox, vector
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.specs.arrays import F64, Array

Reward = Callable[[Mapping[str, F64]], Any]  # name of an objective -> (B,), in its own unit; gives (B,)


def load(name: str) -> Reward:
    """The function that `module:function` names. Raises NotFound or InvalidInput."""
    module, colon, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None) if colon else None
    except ImportError as error:
        raise NotFound(
            f"module {module!r} of reward {name!r}",
            given=str(error),
            expected="an importable module",
            cure="Install it, or run where it can be imported.",
        ) from error
    if not callable(found):
        raise InvalidInput(
            "reward",
            given=name,
            expected="module:function taking {objective: array of the batch} and giving an array of the batch",
            cure="`rlaas env show ENV` names the objectives.",
        )
    function: Reward = found
    return function


class Rewarded:
    """A domain whose reward is the user's function of `info["objectives"]`; all else is the domain's."""

    def __init__(self, domain: vector.Domain, reward: Reward) -> None:
        self._domain, self._reward = domain, reward
        self.observation_space, self.action_space = domain.observation_space, domain.action_space
        self.objectives, self.reported, self.metadata = domain.objectives, domain.reported, domain.metadata

    def check(self, action: Any) -> Array:
        """As the domain."""
        return self._domain.check(action)

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Any, dict[str, Any]]:
        """As the domain."""
        return self._domain.reset(streams)

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """As the domain, the reward replaced. Raises InvalidInput where the function gives no finite number for each row."""
        after, seen, own, cost, ended, cut, info = self._domain.step(state, action, streams=streams)
        names = [name for name, _, _ in self.objectives]
        given = self._reward({name: info["objectives"][:, k].copy() for k, name in enumerate(names)})
        reward = np.asarray(given, dtype=np.float64)
        if reward.shape != own.shape or not np.isfinite(reward).all():
            raise InvalidInput(
                "what the reward function gave",
                given=f"shape {reward.shape}" if reward.shape != own.shape else "a number that is not finite",
                expected=f"{len(own)} finite numbers, one for each row",
                cure="Compute with whole arrays; every objective is one of length B.",
            )
        return after, seen, reward, cost, ended, cut, info

    def draw(self, state: vector.State) -> Array:
        """As the domain."""
        return self._domain.draw(state)
