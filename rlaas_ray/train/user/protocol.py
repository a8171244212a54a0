"""The protocol of a user's own algorithm, and the values that go in and out of it.

Written by users (docs/own-algorithm.md), called by looped.py, driven.py and check.py. Knows no Ray and no env.

`T` steps, `B` envs, `d` entries of an encoded observation, `a` of an action, `m` of a mask, `k` of a distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import gymnasium

from rlaas_ray.specs.arrays import F32, Array, Bool

HeadName = Literal["categorical", "multi_categorical", "gaussian", "point", "q_values"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionOut:
    """Actions of a batch of observations."""

    action: Array  # (B,) indices from 0, or (B, a)
    logp: F32 | None = None  # (B,)
    dist: F32 | None = None  # (B, k)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """T steps of B envs, as `update` gets them. Rows that are not `valid` are resets: leave them out of every sum."""

    observations: F32  # (T, B, d)
    actions: Array  # (T, B, a), int64 for indices, float32 otherwise
    rewards: F32  # (T, B)
    next_observations: F32  # (T, B, d), the final one where an episode ended
    terminated: Bool  # (T, B); bootstrap from next_observations unless terminated
    truncated: Bool  # (T, B)
    valid: Bool  # (T, B)
    masks: Bool | None = None  # (T, B, m), true where an action was allowed
    next_masks: Bool | None = None
    logp: F32 | None = None  # (T, B), what choose_action told
    dist: F32 | None = None  # (T, B, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How far the run may go, over all its attempts: a `train` of one's own ends when `used()` is 1."""

    total_timesteps: int | None
    total_episodes: int | None
    used: Callable[[], float]  # in [0, 1], as of now; schedules may follow it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exported:
    """A policy that can be served: encoded observation -> layers -> parameters of a head.

    `layers`: a torch.nn.Sequential of Linear and activations, or (weight (out, in), bias (out,), activation) in turn.
    `head`: categorical: logits; q_values: values of actions, the best one is taken; multi_categorical: blocks of logits;
    gaussian: means, with `log_std` (a,), or means and log stds; point: the action itself.
    """

    layers: Any
    head: HeadName
    log_std: Array | None = None
    mean: Array | None = None  # (d,), subtracted from observations first
    std: Array | None = None  # (d,), then divided by
    serving: Literal["sample", "greedy"] | None = None


class UserAlgorithm(Protocol):
    """What `algorithm: module:Class` names. `train(env, budget)` and `policy()` may be added.

    Observations are encoded rows: numbers as they are, categories one-hot, dicts by sorted key. Actions are what a network
    proposes: indices from 0; for a bounded Box numbers in [-1, 1]. The spaces handed in say exactly that.
    """

    def __init__(
        self,
        *,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        config: Mapping[str, Any],
        seed: int,
    ) -> None: ...

    def choose_action(self, obs: F32, *, explore: bool, mask: Bool | None = None) -> ActionOut:
        """Actions for observations (B, d)."""
        ...

    def update(self, columns: Steps) -> Mapping[str, float]:
        """Learn from steps; gives statistics."""
        ...

    def state(self) -> Mapping[str, Array]:
        """Arrays that `load_state` goes on from."""
        ...

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse of `state`."""
        ...


class OwnLoop(Protocol):
    """An algorithm that samples for itself."""

    def train(self, env: Any, budget: Budget) -> Iterator[Mapping[str, float]]:
        """Step `env` (a vector env of encoded rows) and learn; each `yield` is where a run reports, saves and may stop."""
        ...


class Servable(Protocol):
    """An algorithm whose policy can become a bundle."""

    def policy(self) -> Exported:
        """The policy as it stands."""
        ...


METHODS: Sequence[str] = ("choose_action", "update", "state", "load_state")
