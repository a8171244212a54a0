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

_TOUCHING = 1e-6  # an observed distance that gives no direction


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
        return self.towards(self.targets(proposed), observations=observations)

    def targets(self, proposed: F64) -> F64:
        """The targets (n, a) that are proposed, within their bounds."""
        return np.minimum(np.maximum(self.base + self.scale * proposed, self.low), self.high)

    def towards(self, target: F64, *, observations: F32) -> F64:
        """The steps (n, a) from what is observed to the targets."""
        present = self.obs_offset + self.obs_scale * observations[:, self.obs_index]
        return np.minimum(np.maximum(self.gain * (target - present), -1.0), 1.0)

    def to_json(self) -> dict[str, Any]:
        return {"type": "target_delta"}

    def tensors(self) -> dict[str, Array]:
        return {f"decoder.{f.name}": getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Zones:
    """Turns z plane velocities along the edge of the nearest zone that each observes: into it leads only what can be braked.

    One whose observed distance is 1 or more is out of sight. `margin` is a length, `brake` lengths per second squared, `leave`
    a velocity for each length too far (`_allowed`).
    """

    entries: I64  # (z, 2): the target's entries that are a velocity in the plane; no entry twice
    seen: I64  # (z, 3): observed vector to the nearest point of an edge, and signed distance (negative inside), in one unit
    speed: F64  # (z,): velocity of a target of 1
    span: F64  # (z,): length of an observed 1
    margin: F64
    brake: F64
    leave: F64

    def __post_init__(self) -> None:
        z = len(self.speed)
        _check_arrays(self, what="zones", shapes={"entries": (z, 2), "seen": (z, 3)}, plain=(z,))
        if len(np.unique(self.entries)) != self.entries.size:
            raise InvalidInput("zones that bound a velocity twice", given=self.entries.tolist(), expected="each once")

    def kept(self, target: F64, *, observations: F32) -> F64:
        """Targets (n, a) that do; what is turned keeps its speed, and goes clockwise round the zone if it leads straight in."""
        there = observations[:, self.seen].astype(np.float64)
        distance = there[..., 2]
        inward = there[..., :2] / np.where(np.abs(distance) < _TOUCHING, _TOUCHING, distance)[..., None]
        velocity = target[:, self.entries] * self.speed[:, None]
        into = velocity[..., 0] * inward[..., 0] + velocity[..., 1] * inward[..., 1]
        most = _allowed(self.span * distance - self.margin, brake=self.brake, leave=self.leave)
        along = np.stack((inward[..., 1], -inward[..., 0]), axis=-1)
        side = np.where(velocity[..., 0] * along[..., 0] + velocity[..., 1] * along[..., 1] < 0.0, -1.0, 1.0)
        rest = velocity[..., 0] * velocity[..., 0] + velocity[..., 1] * velocity[..., 1] - most * most
        slide = side * np.sqrt(np.maximum(rest, 0.0))
        turned = inward * most[..., None] + along * slide[..., None]
        beyond = (np.abs(distance) < 1.0) & (np.abs(distance) >= _TOUCHING) & (into > most)
        made = target.copy()
        made[:, self.entries] = np.where(beyond[..., None], turned, velocity) / self.speed[:, None]
        return made


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walls:
    """Keeps each entry of a target, a velocity, from walls at observed coordinates `low` and `high`; the rest as in Zones."""

    seen: I64  # (a,): the observed coordinate along each entry
    low: F64
    high: F64
    speed: F64
    span: F64
    margin: F64
    brake: F64
    leave: F64

    def __post_init__(self) -> None:
        _check_arrays(self, what="walls", shapes={}, plain=self.speed.shape)

    def kept(self, target: F64, *, observations: F32) -> F64:
        """Targets (n, a), each within what can be braked in front of its two walls."""
        there = observations[:, self.seen].astype(np.float64)
        up = _allowed(self.span * (self.high - there) - self.margin, brake=self.brake, leave=self.leave)
        down = _allowed(self.span * (there - self.low) - self.margin, brake=self.brake, leave=self.leave)
        return np.minimum(np.maximum(target, -down / self.speed), up / self.speed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeepOut:
    """A TargetDelta whose targets are velocities, kept from each of `zones` in turn, then from walls: a filter, not a proof.

    Another craft is a zone without a size: the margin is how far it is kept.
    """

    target: TargetDelta
    zones: tuple[Zones, ...]
    walls: Walls

    def __post_init__(self) -> None:
        last = max((int(zone.entries.max(initial=0)) for zone in self.zones), default=0)
        if self.walls.seen.shape != self.target.gain.shape or last >= len(self.target.gain):
            given = (len(self.target.gain), len(self.walls.seen), last)
            raise InvalidInput("zones and walls of another target", given=given, expected="walls for each entry")

    def decode(self, proposed: F64, *, observations: F32) -> F64:
        target = self.target.targets(proposed)
        for zone in self.zones:
            target = zone.kept(target, observations=observations)
        target = self.walls.kept(target, observations=observations)
        within = np.minimum(np.maximum(target, self.target.low), self.target.high)
        return self.target.towards(within, observations=observations)

    def to_json(self) -> dict[str, Any]:
        return {"type": "keep_out"}

    def tensors(self) -> dict[str, Array]:
        parts = {f"zones.{k}": zone for k, zone in enumerate(self.zones)} | {"walls": self.walls}
        own: dict[str, Array] = {
            f"decoder.{name}.{f.name}": getattr(part, f.name) for name, part in parts.items() for f in fields(part)
        }
        return self.target.tensors() | own


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
            return TargetDelta(**_stored(TargetDelta, tensors, prefix="decoder."))
        case "keep_out" if isinstance(space, gs.Box):
            count = sum(name.startswith("decoder.zones.") and name.endswith(".entries") for name in tensors)
            zones = (_stored(Zones, tensors, prefix=f"decoder.zones.{k}.") for k in range(count))
            return KeepOut(
                target=TargetDelta(**_stored(TargetDelta, tensors, prefix="decoder.")),
                zones=tuple(Zones(**stored) for stored in zones),
                walls=Walls(**_stored(Walls, tensors, prefix="decoder.walls.")),
            )
    raise InvalidInput("not a decoder of this action space", given=dict(body), expected=f"one for {space}")


def _allowed(room: F64, *, brake: F64, leave: F64) -> F64:
    """The most speed towards what is `room` away: sqrt(2 brake room), where there is none `leave * room`, which leads away."""
    return np.where(room > 0.0, np.sqrt(2.0 * brake * np.maximum(room, 0.0)), leave * room)


def _check_arrays(
    made: Zones | Walls, *, what: str, shapes: Mapping[str, tuple[int, ...]], plain: tuple[int, ...]
) -> None:
    """Integers of observations or entries (`shapes`, or `seen`) and float64 numbers of shape `plain`. Raises InvalidInput."""
    arrays = {f.name: getattr(made, f.name) for f in fields(made)}
    whole = {*shapes, "seen"}
    wanted = {name: (shapes.get(name, plain), "int64" if name in whole else "float64") for name in arrays}
    given = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if given != wanted or any((arrays[name] < 0).any() for name in whole):
        raise InvalidInput(f"{what} that do not fit", given=given, expected=str(wanted))


def _stored(kind: type, tensors: Mapping[str, Array], *, prefix: str) -> dict[str, Any]:
    names = {field.name: f"{prefix}{field.name}" for field in fields(kind)}
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        raise InvalidInput("a decoder without its arrays", given=sorted(tensors), expected=str(missing))
    return {field: tensors[name] for field, name in names.items()}


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
