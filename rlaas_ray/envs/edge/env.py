"""EdgePlacement for Gymnasium: spaces, action forms and keyword arguments around the model, full and tiny.

Called by the registry. Decides nothing about pods.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.edge import config, model, tiny
from rlaas_ray.envs.edge import demand as demands
from rlaas_ray.envs.edge import observation as observations
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import Array

MACROS = 4
_REPORTED = ("objectives", "cost", "invalid", "drop_fraction", "latency_by_service")


class EdgePlacement:
    """The domain (vector.Domain). With `mask_in_obs` the observation is a Dict of `observations` and `action_mask`."""

    def __init__(self, params: model.Params, *, mask_in_obs: bool = True, indexed: bool = False) -> None:
        self.params = params
        self.objectives, self.metadata = config.OBJECTIVES, model.metadata()
        self._discrete = params.action == "discrete"
        self._mask_in_obs, self._indexed = mask_in_obs and self._discrete, indexed
        self.reported: tuple[str, ...] = _REPORTED + (("action_mask",) if self._discrete else ())
        self._states = isinstance(params.demand, demands.Chain)
        if self._states:
            self.reported += ("state_index",)
        self.action_space, self._sizes = _actions(params)
        seen: gymnasium.Space[Any] = gymnasium.spaces.Box(
            observations.LOW, observations.HIGH, (observations.size(params.instance),), np.float32
        )
        if indexed:
            seen = gymnasium.spaces.Discrete(tiny.STATES)
        self.observation_space: gymnasium.Space[Any] = seen
        if self._mask_in_obs:
            mask = gymnasium.spaces.Box(0, 1, (params.instance.actions,), np.int8)
            self.observation_space = gymnasium.spaces.Dict({"observations": seen, "action_mask": mask})

    def check(self, action: Any) -> Array:
        """Int64 (B,) of the discrete form, (B, S) of the others; raises InvalidInput for anything else."""
        given = np.asarray(action)
        shape = () if self._discrete else (len(self.params.instance.services),)
        whole = given.ndim == 1 + len(shape) and given.shape[1:] == shape and given.dtype.kind in "iu"
        if not whole or (given < 0).any() or (given >= self._sizes).any():
            raise InvalidInput(
                "action of edge placement",
                given=given.tolist() if given.size <= 8 else (given.shape, str(given.dtype)),
                expected=f"a batch of ints from 0 to {self._sizes - 1}" + (f", {shape[0]} each" if shape else ""),
                cure="Sample from the action space to see one; `rlaas_ray.envs.edge.config.decode` says what a number does.",
            )
        return given.astype(np.int64)

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Any, dict[str, Any]]:
        """See model.reset_batch."""
        state, seen, info = model.reset_batch(self.params, streams)
        return state, self._told(state, seen, info=info), info

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """See model.step_batch."""
        after, seen, reward, cost, ended, cut, info = model.step_batch(
            self.params, state, action=action, streams=streams
        )
        return after, self._told(after, seen, info=info), reward, cost, ended, cut, info

    def draw(self, state: vector.State) -> Array:
        """Nodes with their pods, see picture.py."""
        from rlaas_ray.envs.edge import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(self.params, state)

    def _told(self, state: vector.State, seen: Any, *, info: dict[str, Any]) -> Any:
        if self._states:
            info["state_index"] = tiny.index(state)
        if self._indexed:
            seen = info["state_index"]
        return {"observations": seen, "action_mask": state["mask"]} if self._mask_in_obs else seen


def domain(
    *,
    demand: str = "stochastic",
    trace: Any = None,
    mask_in_obs: bool = True,
    **options: Any,
) -> EdgePlacement:
    """The full instance; `options` are those of model.params: mode, weights, routing, action.

    demand "stochastic", or "trace" with `trace` an array (T, S, Z) or the path of a Parquet file.
    """
    instance = config.full()
    return EdgePlacement(
        model.params(instance, process=_process(demand, trace=trace, instance=instance), **options),
        mask_in_obs=mask_in_obs,
    )


def tiny_domain(
    *,
    mode: str = "balanced",
    weights: modes.Given | None = None,
    mask_in_obs: bool = True,
    observation: str = "box",
) -> EdgePlacement:
    """The tiny instance. `observation="index"` gives the exact state, 0 to 329, for tables."""
    if observation not in {"box", "index"}:
        raise InvalidInput("observation", given=observation, expected="box or index", cure="Leave it out for the box.")
    params = model.params(config.tiny(), mode=mode, weights=weights, process=demands.Chain())
    return EdgePlacement(params, mask_in_obs=mask_in_obs, indexed=observation == "index")


def _process(name: str, *, trace: Any, instance: config.Instance) -> demands.Demand | None:
    known = ["stochastic", "trace"]
    if name not in known:
        raise InvalidInput("demand", given=name, expected=", ".join(known), cure=nearest(name, known))
    if (name == "trace") != (trace is not None):
        raise InvalidInput(
            "demand trace",
            given=f"demand={name!r} and {'no trace' if trace is None else 'a trace'}",
            expected="both, or neither",
            cure="Give `demand: trace` together with `trace: PATH`.",
        )
    return demands.trace(trace, instance=instance) if name == "trace" else None


def _actions(params: model.Params) -> tuple[gymnasium.Space[Any], int]:
    instance = params.instance
    if params.action == "discrete":
        return gymnasium.spaces.Discrete(instance.actions), instance.actions
    size = MACROS if params.action == "multi" else instance.most_pods + 1
    return gymnasium.spaces.MultiDiscrete([size] * len(instance.services)), size
