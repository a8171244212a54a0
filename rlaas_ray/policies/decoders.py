# ruff: noqa: D102 (the protocol says once what each method does)
"""Decoders: from the proposed action (what the head drew, what the propensity speaks of) to the action an env executes.

Called by `loaded.py` after each draw, by training to step the env the same way, and by tests. Never draws anything.

`n` rows, `a` action entries, `d` encoded observation entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies.spaces import Space
from rlaas_ray.specs.arrays import F32, F64, I64, Array


class Decoder(Protocol):
    """Proposed (n, a) and the flat encoded observation (n, d) -> executed action (n, a), in the env's units."""

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        """The executed actions (n, a)."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The decoder's kind; arrays go to `tensors`, bounds come from the action space."""
        ...

    def tensors(self) -> dict[str, Array]:
        """Arrays that the bundle stores, by name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Indices:
    """Discrete and MultiDiscrete: index from 0, plus the space's start."""

    start: F64  # (a,)

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        return proposed + self.start

    def to_json(self) -> dict[str, Any]:
        return {"type": "indices"}

    def tensors(self) -> dict[str, Array]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unsquash:
    """Box with finite bounds: [-1, 1] -> [low, high] and clipped, as RLlib's `normalize_actions` does."""

    low: F64  # (a,)
    high: F64  # (a,)

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        action = self.low + (proposed + 1.0) * ((self.high - self.low) * 0.5)
        return np.minimum(np.maximum(action, self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        return {"type": "unsquash"}

    def tensors(self) -> dict[str, Array]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Box whose head speaks the env's units (a built-in policy; a Box with an infinite bound): clipped to the bounds."""

    low: F64  # (a,)
    high: F64  # (a,)

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        return np.minimum(np.maximum(proposed, self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        return {"type": "clip"}

    def tensors(self) -> dict[str, Array]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetDelta:
    """The head proposes a target u, the env takes a step towards it; the present setting is read from the observation.

    action = clip(gain * (clip(base + scale * u, low, high) - (obs_offset + obs_scale * observation[obs_index])), -1, 1)
    """

    gain: F64  # (a,), all of them
    base: F64
    scale: F64
    low: F64
    high: F64
    obs_offset: F64
    obs_scale: F64
    obs_index: I64

    def __post_init__(self) -> None:
        arrays = [getattr(self, f.name) for f in fields(self)]
        dtypes = [np.dtype(np.int64) if f.name == "obs_index" else np.dtype(np.float64) for f in fields(self)]
        right = all(
            x.ndim == 1 and x.shape == self.gain.shape and x.dtype == t for x, t in zip(arrays, dtypes, strict=True)
        )
        if not right or (self.obs_index < 0).any():
            given = {f.name: (x.shape, str(x.dtype)) for f, x in zip(fields(self), arrays, strict=True)}
            raise InvalidInput("not a target decoder", given=given, expected="eight arrays (a,), float64; index int64")

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        present = self.obs_offset + self.obs_scale * observations[:, self.obs_index]
        target = np.minimum(np.maximum(self.base + self.scale * proposed, self.low), self.high)
        return np.minimum(np.maximum(self.gain * (target - present), -1.0), 1.0)

    def to_json(self) -> dict[str, Any]:
        return {"type": "target_delta"}

    def tensors(self) -> dict[str, Array]:
        return {f"decoder.{f.name}": getattr(self, f.name) for f in fields(self)}


def for_action_space(space: Space) -> Decoder:
    """The decoder of a learned policy for this action space."""
    if isinstance(space, gs.Box) and space.is_bounded("both"):
        return Unsquash(low=_flat(space.low), high=_flat(space.high))
    return direct(space)


def direct(space: Space) -> Decoder:
    """The decoder of a built-in policy: its head speaks the env's units (indices count from 0)."""
    if isinstance(space, gs.Box):
        return Clip(low=_flat(space.low), high=_flat(space.high))
    return _indices(space)


def from_json(body: Mapping[str, Any], *, space: Space, tensors: Mapping[str, Array]) -> Decoder:
    """The decoder that a manifest names. Raises InvalidInput on an unknown one, or one that the action space does not allow."""
    kind = dict(body).get("type") if len(body) == 1 else None
    match kind:
        case "indices" if not isinstance(space, gs.Box):
            return _indices(space)
        case "unsquash" if isinstance(space, gs.Box) and space.is_bounded("both"):
            return Unsquash(low=_flat(space.low), high=_flat(space.high))
        case "clip" if isinstance(space, gs.Box):
            return Clip(low=_flat(space.low), high=_flat(space.high))
        case "target_delta" if isinstance(space, gs.Box):
            names = {f.name: f"decoder.{f.name}" for f in fields(TargetDelta)}
            missing = [name for name in names.values() if name not in tensors]
            if not missing:
                return TargetDelta(**{field: tensors[name] for field, name in names.items()})  # type: ignore[arg-type]
            raise InvalidInput("a target decoder without its arrays", given=sorted(tensors), expected=str(missing))
    raise InvalidInput("not a decoder of this action space", given=dict(body), expected=f"one for {space}")


def _indices(space: Space) -> Indices:
    match space:
        case gs.Discrete():
            return Indices(start=np.array([float(space.start)]))
        case gs.MultiDiscrete():
            return Indices(start=_flat(space.start))
        case _:
            raise NotBuilt(
                "this kind of action space", given=space, expected="Discrete, MultiDiscrete or Box", cure="Wrap it."
            )


def _flat(values: Array) -> F64:
    return values.astype(np.float64).ravel()
