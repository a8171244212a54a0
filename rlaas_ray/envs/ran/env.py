"""RanControl-v1 and RanControl-tiny-v1 for Gymnasium: spaces, action forms and keyword arguments around the dynamics.

Called through the registry's entry points. Decides nothing about radio.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import philox, vector
from rlaas_ray.envs.ran import dynamics, layout, measures, tiny
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, I64, Array

# Index -> value of the discrete form: five powers, three of each other.
_DISCRETE = (np.asarray([-1.0, -0.5, 0.0, 0.5, 1.0]), *(np.asarray([-1.0, 0.0, 1.0]),) * 3)
_SIZES = np.tile([5, 3, 3, 3], dynamics.CELLS)
NEIGHBOUR_FEATURES = (0, 4, 5, 8)  # power, load, users, satisfied


class RanControl:
    """The domain (vector.Domain). `action`: "box" of 84 numbers, or "discrete" for methods that need finite sets."""

    reported: tuple[str, ...] = ("objectives", "normalised", "cost")

    def __init__(self, params: dynamics.Params, *, action: str = "box") -> None:
        if action not in {"box", "discrete"}:
            raise InvalidInput("action", given=action, expected="box or discrete", cure="Leave it out for the box.")
        self.params = params
        self.objectives = measures.OBJECTIVES
        self.observation_space = gymnasium.spaces.Box(-4.0, 12.0, (measures.OBSERVATION,), np.float32)
        self._discrete = action == "discrete"
        self.action_space: gymnasium.Space[Any] = (
            gymnasium.spaces.MultiDiscrete(_SIZES)
            if self._discrete
            else gymnasium.spaces.Box(-1.0, 1.0, (dynamics.ACTION,), np.float32)
        )

    def check(self, action: Any) -> Array:
        """Float32 (B, 84); indices become values first."""
        given = np.asarray(action)
        return dynamics.check_action(_values(given) if self._discrete else given)

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Array, dict[str, Any]]:
        """See dynamics.reset_batch."""
        return dynamics.reset_batch(self.params, streams)

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """See dynamics.step_batch."""
        return dynamics.step_batch(self.params, state, action, streams)  # type: ignore[arg-type]


def make(**config: Any) -> vector.DomainEnv:
    """Entry point of `gymnasium.make("rlaas/RanControl-v1", mode=..., weights=..., action=..., episode_length=...)`."""
    return vector.DomainEnv(domain(**config), metadata=_METADATA)


def make_vec(num_envs: int, *, seed: int | None = None, first_index: int = 0, **config: Any) -> vector.DomainVectorEnv:
    """Entry point of `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")`."""
    return vector.DomainVectorEnv(
        domain(**config), num_envs=num_envs, seed=seed, first_index=first_index, metadata=_METADATA
    )


def domain(*, action: str = "box", render_mode: None = None, **config: Any) -> RanControl:  # noqa: ARG001 - Gymnasium hands it in
    """The domain of a configuration: mode, weights, episode_length, scenario, power_model, action."""
    return RanControl(dynamics.params(**config), action=action)


def make_tiny(**config: Any) -> vector.DomainEnv:
    """Entry point of `gymnasium.make("rlaas/RanControl-tiny-v1", mode=..., weights=...)`."""
    return vector.DomainEnv(tiny_domain(**config), metadata=_METADATA)


def make_tiny_vec(
    num_envs: int, *, seed: int | None = None, first_index: int = 0, **config: Any
) -> vector.DomainVectorEnv:
    """The vector form of the tiny variant."""
    return vector.DomainVectorEnv(
        tiny_domain(**config), num_envs=num_envs, seed=seed, first_index=first_index, metadata=_METADATA, block=4096
    )


def tiny_domain(*, render_mode: None = None, **config: Any) -> tiny.Tiny:  # noqa: ARG001 - Gymnasium hands it in
    """The tiny domain of a configuration: mode, weights."""
    return tiny.Tiny(**config)


def per_cell_view(observations: F32) -> F32:
    """(B, 283) -> (B, 21, 37): each cell's 13 features, then power, load, users, satisfied of its six neighbours."""
    cells = observations[:, : measures.HOUR].reshape(len(observations), measures.CELLS, measures.FEATURES)
    around = cells[:, neighbours()][..., NEIGHBOUR_FEATURES]
    return np.concatenate((cells, around.reshape(len(cells), measures.CELLS, -1)), axis=2)


def neighbours() -> I64:
    """(21, 6): whom each cell interferes with most, by geometry."""
    return layout.neighbours(layout.network(500.0))


_METADATA = {"costs": list(measures.COSTS), "cost_limits": list(measures.COST_LIMITS), "modes": list(measures.MODES)}


def _values(index: Any) -> Array:
    if index.ndim != 2 or index.shape[1] != dynamics.ACTION or index.dtype.kind not in "iu":
        raise InvalidInput(
            "action of RanControl",
            given=(index.shape, str(index.dtype)),
            expected=f"(B, {dynamics.ACTION}) ints",
            cure="21 cells x an index below (5, 3, 3, 3).",
        )
    if ((index < 0) | (index >= _SIZES)).any():
        raise InvalidInput(
            "action of RanControl",
            given=int(index.max()),
            expected="indices below (5, 3, 3, 3) by turns",
            cure="Sample from the action space to see one.",
        )
    choice = index.reshape(len(index), dynamics.CELLS, 4)
    return np.stack([values[choice[..., k]] for k, values in enumerate(_DISCRETE)], axis=-1).reshape(len(index), -1)
