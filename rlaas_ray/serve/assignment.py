"""Which arm answers a unit: a pure function of the route table and the unit's name.

Called by the data plane on every decision, by control to grow and shrink arms, and by simulations. Never reads a clock, a
file or a counter; the same table and unit give the same arm on every machine.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, I64
from rlaas_ray.specs.routing import BUCKETS, Arm, RouteTable

# One salt for all endpoints and rollouts: a unit that is held out stays held out of every experiment.
HOLDOUT_SALT = "holdout:all"


class Assignment(NamedTuple):
    """`probability` is that of this arm for a random unit that is not excluded. A tuple, as this is made on every decision."""

    arm: Arm
    probability: float
    excluded: str | None


def bucket(salt: str, unit: str) -> int:
    """The unit's bucket in [0, 10000): its keyed BLAKE2b as a fraction of 2**64, in integers."""
    hasher = _keyed(salt).copy()
    hasher.update(unit.encode("utf-8", "surrogatepass"))
    return (int.from_bytes(hasher.digest()) * BUCKETS) >> 64


def assign(table: RouteTable, unit: str) -> Assignment:
    """The arm of `unit`; where the table says `assign_by: episode`, hand the episode id in.

    In this order: e-stop (fallback arm, else champion), holdout (champion), the arms' bucket ranges, champion. Shadow and
    fallback arms own no bucket.
    """
    if table.estop:
        return Assignment(table.arm("fallback") or table.champion, 1.0, "estop")
    if table.holdout_buckets and bucket(HOLDOUT_SALT, unit) < table.holdout_buckets:
        return Assignment(table.champion, 1.0, "holdout")
    arms = table.arms
    place = -1
    owned = 0
    for arm in arms:
        if not arm.ranges or arm.role != "challenger":
            continue
        if place < 0:
            place = bucket(table.salt, unit)
        for low, high in arm.ranges:
            if low <= place < high:
                return Assignment(arm, arm.buckets / BUCKETS, None)
            owned += high - low
    return Assignment(table.champion, 1.0 - owned / BUCKETS, None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignments:
    """Many units at once: `arm` (n,) indexes the table's arms, `probability` (n,), `excluded` (n,) of str, "" for none."""

    arm: I64
    probability: F64
    excluded: np.ndarray


def assign_many(table: RouteTable, units: Sequence[str]) -> Assignments:
    """`assign` for n units, for simulations and replays; the same answers."""
    count = len(units)
    index = {id(arm): i for i, arm in enumerate(table.arms)}
    if table.estop:
        only = index[id(table.arm("fallback") or table.champion)]
        return Assignments(
            arm=np.full(count, only, np.int64), probability=np.ones(count), excluded=np.full(count, "estop", object)
        )
    champion = index[id(table.champion)]
    owner = np.full(BUCKETS, champion, np.int64)
    for i, arm in enumerate(table.arms):
        if arm.role == "challenger":
            for low, high in arm.ranges:
                owner[low:high] = i
    probability = np.bincount(owner, minlength=len(table.arms)) / BUCKETS
    arm_index = owner[buckets(table.salt, units)]
    held = np.zeros(count, bool)
    if table.holdout_buckets:
        held = buckets(HOLDOUT_SALT, units) < table.holdout_buckets
    arm_index[held] = champion
    return Assignments(
        arm=arm_index,
        probability=np.where(held, 1.0, probability[arm_index]),
        excluded=np.where(held, "holdout", "").astype(object),
    )


def buckets(salt: str, units: Sequence[str]) -> I64:
    """`bucket` of n units, (n,) int64."""
    return np.fromiter((bucket(salt, unit) for unit in units), np.int64, count=len(units))


def grow(arms: tuple[Arm, ...], name: str, *, count: int) -> tuple[Arm, ...]:
    """The arms after `name` owns `count` buckets.

    Growth takes the lowest buckets that the champion has, so nobody else moves; shrinking gives the arm's own highest buckets
    back to the champion. Raises InvalidInput when the champion has too few, or the arm may own none.
    """
    arm = next((a for a in arms if a.name == name), None)
    if arm is None or arm.role != "challenger":
        raise InvalidInput(
            f"arm {name!r} can own no buckets", given=arm.role if arm else "no such arm", expected="a challenger"
        )
    if not 0 <= count <= BUCKETS:
        raise InvalidInput("buckets of an arm", given=count, expected=f"0 to {BUCKETS}")
    owned = np.zeros(BUCKETS, bool)
    taken = np.zeros(BUCKETS, bool)
    for other in arms:
        for low, high in other.ranges:
            (owned if other is arm else taken)[low:high] = True
    free = np.flatnonzero(~owned & ~taken)
    mine = np.flatnonzero(owned)
    wanted = count - len(mine)
    if wanted > len(free):
        raise InvalidInput(
            f"arm {name!r} wants more buckets than the champion has",
            given=count,
            expected=f"<= {len(mine) + len(free)}",
        )
    if wanted >= 0:
        owned[free[:wanted]] = True
    else:
        owned[mine[count:]] = False
    grown = replace(arm, ranges=_ranges(owned))
    return tuple(grown if a is arm else a for a in arms)


def _ranges(owned: np.ndarray) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], owned, [False]]).astype(np.int8)))
    return tuple((int(low), int(high)) for low, high in edges.reshape(-1, 2))


@functools.lru_cache(maxsize=256)
def _keyed(salt: str) -> hashlib.blake2b:
    """The hasher with its key taken in: copying it costs less than keying a new one for every decision."""
    key = salt.encode()
    if not 0 < len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise InvalidInput("salt of a route table", given=len(key), expected="1 to 64 bytes")
    return hashlib.blake2b(digest_size=8, key=key)
