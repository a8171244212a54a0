"""Baselines of the tiny network: constants that can serve, and the optimum by enumeration.

Found like those of RanControl. The optimum is exact: there is no chance and no memory, so the best action of each step is
the best plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.ran import tiny
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64

# Best constant action of each mode, over all 729 (section 7 of the page; a test recomputes them).
GRID = {"normal": (4, 0, 6), "emergency": (3, 8, 6), "energy_saving": (7, 0, 0), "revenue": (3, 8, 6)}
HOLD = (7, 7, 7)  # 46 dBm, 8 degrees
_POINT = heads.Point(entries=tiny.CELLS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One action for every step."""

    action: tuple[int, ...]
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Indices (n, 3)."""
        return np.tile(np.asarray(self.action, dtype=np.float32), (len(observations), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best action of each step, which the observation's one-hot names."""

    plan: tuple[tuple[int, ...], ...]
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Indices (n, 3)."""
        found: F32 = np.asarray(self.plan, dtype=np.float32)[np.argmax(observations[:, : tiny.STEPS], axis=1)]
        return found


def random() -> builtin.Builtin:
    """Each of the 729 actions as probable."""
    return builtin.Uniform(head=heads.MultiCategorical(nvec=(tiny.CHOICES,) * tiny.CELLS))


def hold() -> builtin.Builtin:
    """All at 46 dBm, 8 degrees."""
    return Constant(action=HOLD)


def grid(mode: str = "normal") -> builtin.Builtin:
    """The best constant action of a mode."""
    if mode not in GRID:
        raise InvalidInput(
            "mode of baseline grid", given=mode, expected=", ".join(GRID), cure="Name one of the four modes."
        )
    return Constant(action=GRID[mode])


def optimum(mode: str = "normal") -> builtin.Builtin:
    """The exact answer: best of 729 at each of the eight steps."""
    _, normalised, _ = tiny.table()
    best = (normalised @ np.asarray(tiny.Tiny(mode=mode).weights)).argmax(axis=1)
    plan = np.stack(np.unravel_index(best, (tiny.CHOICES,) * tiny.CELLS), axis=1)
    return Optimum(plan=tuple(tuple(int(k) for k in row) for row in plan))


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hold": hold,
    "grid": grid,
    "optimum": optimum,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "optimum"


def card(mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one mode."""
    return {"random": random(), "hold": hold(), "grid": grid(mode), "optimum": optimum(mode)}
