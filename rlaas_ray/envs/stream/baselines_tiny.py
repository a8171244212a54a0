"""Baselines of the tiny dataflow: the rules of the field on its whole numbers, constants, and the exact optimum.

Found like those of StreamParallelism. All see the observation alone, which shows the whole state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.stream import tiny
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64, I64

_POINT = heads.Point(entries=2)
Rule = Callable[[dict[str, I64]], I64]  # the state -> indices (B, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """A rule as a policy."""

    rule: Rule
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Indices (n, 2)."""
        return self.rule(tiny.read(observations)).astype(np.float32)


def random() -> builtin.Builtin:
    """Each of the nine actions as probable."""
    return builtin.Uniform(head=heads.MultiCategorical(nvec=(tiny.CHOICES,) * 2))


def static(flatmap: int = 3, count: int = 3) -> builtin.Builtin:
    """The same counts for ever."""
    if not (1 <= flatmap <= tiny.CHOICES and 1 <= count <= tiny.CHOICES):
        raise ValueError(f"counts from 1 to {tiny.CHOICES}")
    return Ruled(rule=lambda seen: np.tile(np.asarray((flatmap - 1, count - 1)), (len(seen["t"]), 1)))


def hold() -> builtin.Builtin:
    """What is there."""
    return Ruled(rule=_now)


def ds2() -> builtin.Builtin:
    """The least counts that carry the rate."""
    return Ruled(rule=lambda seen: _least(tiny.RATE[seen["level"]]))


def ds2_catchup() -> builtin.Builtin:
    """The least for the rate and a quarter of the lag, taken where short of rate + lag / 12 or where it saves four tenths."""
    return Ruled(rule=_catch_up)


def threshold() -> builtin.Builtin:
    """One more where an operator is busier than 0.8, one less below 0.4."""
    return Ruled(rule=_threshold)


def optimum() -> builtin.Builtin:
    """The exact answer, by backward induction over 351 states and 60 steps."""
    _, plan = tiny.optimum()

    def best(seen: dict[str, I64]) -> I64:
        action = plan[np.minimum(seen["t"], tiny.STEPS - 1), tiny.index(seen)]
        return np.stack((action // tiny.CHOICES, action % tiny.CHOICES), axis=1)

    return Ruled(rule=best)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hold": hold,
    "static": static,
    "ds2": ds2,
    "ds2_catchup": ds2_catchup,
    "threshold": threshold,
    "optimum": optimum,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "optimum"


def card(_mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card."""
    return {name: factory() for name, factory in POLICIES.items()}


def _now(seen: dict[str, I64]) -> I64:
    return np.stack((seen["flatmap"], seen["count"]), axis=1)


def _least(rate: F64 | I64) -> I64:
    found = [np.minimum(np.searchsorted(of, rate), tiny.CHOICES - 1) for of in (tiny.FLATMAP, tiny.COUNT)]
    return np.stack(found, axis=1)


def _catch_up(seen: dict[str, I64]) -> I64:
    rate = tiny.RATE[seen["level"]]
    capacity = np.minimum(tiny.FLATMAP[seen["flatmap"]], tiny.COUNT[seen["count"]])
    wanted = rate + seen["lag"] / 4
    acts = (capacity < rate + seen["lag"] / 12) | (wanted < 0.6 * capacity)
    return np.where(acts[:, None], _least(wanted), _now(seen))


def _threshold(seen: dict[str, I64]) -> I64:
    rate = tiny.RATE[seen["level"]]
    busy = np.stack((rate / tiny.FLATMAP[seen["flatmap"]], rate / tiny.COUNT[seen["count"]]), axis=1)
    stepped = _now(seen) + (busy > 0.8) - (busy < 0.4)
    return np.clip(stepped, 0, tiny.CHOICES - 1)
