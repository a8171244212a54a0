"""RanControl-v1 for Gymnasium: spaces, action forms and keyword arguments around the dynamics.

Called by the registry. Decides nothing about radio.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import philox, vector
from rlaas_ray.envs.ran import dynamics, layout, measures
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
        self.objectives, self.metadata = measures.OBJECTIVES, measures.METADATA
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

    def draw(self, state: vector.State) -> Array:
        """The map of cells, see picture.py."""
        from rlaas_ray.envs.ran import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(state)


def domain(*, action: str = "box", **config: Any) -> RanControl:
    """The domain of a configuration: mode, weights, episode_length, scenario, power_model, action."""
    return RanControl(dynamics.params(**config), action=action)


def per_cell_view(observations: F32) -> F32:
    """(B, 283) -> (B, 21, 37): each cell's 13 features, then power, load, users, satisfied of its six neighbours."""
    cells = observations[:, : measures.HOUR].reshape(len(observations), measures.CELLS, measures.FEATURES)
    around = cells[:, neighbours()][..., NEIGHBOUR_FEATURES]
    return np.concatenate((cells, around.reshape(len(cells), measures.CELLS, -1)), axis=2)


def neighbours() -> I64:
    """(21, 6): whom each cell interferes with most, by geometry."""
    return layout.neighbours(layout.network(500.0))


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
