"""Baselines of RanControl: POLICIES see the observation alone and can serve, REFERENCES see the simulator and can only be scored.

Found through the entry-point group `rlaas.baselines` (POLICIES, as `baseline:rlaas/RanControl-v1/NAME`) and through
`envs/registry.py` (both, for scoring.py). `card` and REFERENCES are what the card holds. Nothing here learns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.ran import dynamics, layout, measures, references
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64

# Best of 75 constants (power dBm, tilt degrees, alpha) per mode: references.grid_table() on 32 drops x 8 hours, from a cold
# start and without noise; a test recomputes it.
GRID = {
    "normal": (46.0, 6.0, 0.5),
    "emergency": (46.0, 6.0, 1.0),
    "energy_saving": (43.0, 6.0, 0.5),
    "revenue": (46.0, 6.0, 0.5),
}
_POWER, _TILT, _FAIRNESS, _CIO = range(4)
_POINT = heads.Point(entries=dynamics.ACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same setting in every cell, approached as fast as the action allows."""

    power_dbm: float = 46.0
    tilt_deg: float = 6.0
    alpha: float = 1.0
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Actions (n, 84) that lead to the setting."""
        return _towards(
            observations, power=self.power_dbm, tilt=self.tilt_deg, fairness=np.log(self.alpha) / np.log(4.0), cio=0.0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalance:
    """Mobility load balancing as operators run it: a cell busier than its neighbours lowers its CIO, an idler one raises it.

    Measured worse than `hold` in every setting that was tried; it is here to be seen, and beating it proves nothing.
    """

    step_db: float = 0.25
    dead_band: float = 0.25
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Actions (n, 84): hold's power and tilt, stepped CIO."""
        cells = _cells(observations)
        load, cio = cells[..., 4], cells[..., 3] * measures.CIO_SCALE
        around = load[:, layout.neighbours(layout.network())].mean(axis=2)
        stepped = cio + self.step_db * (np.sign(around - load) * (np.abs(around - load) > self.dead_band))
        return _towards(observations, power=46.0, tilt=6.0, fairness=0.0, cio=np.clip(stepped, -6.0, 6.0))


def random() -> builtin.Builtin:
    """Uniform actions: a random walk in power and tilt."""
    return builtin.Uniform(head=heads.UniformBox(low=(-1.0,) * dynamics.ACTION, high=(1.0,) * dynamics.ACTION))


def hold() -> builtin.Builtin:
    """46 dBm, 6 degrees, alpha 1, no offset: what a network runs that nobody tunes."""
    return Constant()


def grid(mode: str = "normal") -> builtin.Builtin:
    """The best constant setting of a mode."""
    if mode not in GRID:
        raise InvalidInput(
            "mode of baseline grid", given=mode, expected=", ".join(GRID), cure="Name one of the four modes."
        )
    power, tilt, alpha = GRID[mode]
    return Constant(power_dbm=power, tilt_deg=tilt, alpha=alpha)


def constant(power_dbm: float = 46.0, tilt_deg: float = 6.0, alpha: float = 1.0) -> builtin.Builtin:  # noqa: PLR0917
    """Any constant setting, e.g. a bad one for a canary to catch."""
    low, high = dynamics.POWER_DBM
    if not (
        low <= power_dbm <= high and dynamics.TILT_DEG[0] <= tilt_deg <= dynamics.TILT_DEG[1] and 0.25 <= alpha <= 4.0
    ):
        raise InvalidInput(
            "a constant setting",
            given=(power_dbm, tilt_deg, alpha),
            expected="30..46 dBm, 0..15 degrees, alpha 0.25..4",
            cure="Stay within the ranges of the action.",
        )
    return Constant(power_dbm=power_dbm, tilt_deg=tilt_deg, alpha=alpha)


def load_balance(step_db: float = 0.25, dead_band: float = 0.25) -> builtin.Builtin:
    """CIO stepped against load differences."""
    return LoadBalance(step_db=step_db, dead_band=dead_band)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hold": hold,
    "grid": grid,
    "constant": constant,
    "load_balance": load_balance,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {
    "greedy_sleep": functools.partial(references.played, references.GreedySleep),
    "bound": references.bounded,
    "coordinate_ascent": functools.partial(references.played, references.CoordinateAscent),
}
REFERENCE = "coordinate_ascent"
SLOW = {"coordinate_ascent": 6}


def card(mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one mode."""
    return {"random": random(), "hold": hold(), "grid": grid(mode), "load_balance": load_balance()}


def _cells(observations: F32) -> F64:
    wide = observations[:, : measures.HOUR].astype(np.float64)
    return wide.reshape(len(observations), measures.CELLS, measures.FEATURES)


def _towards(observations: F32, *, power: float, tilt: float, fairness: float, cio: float | F64) -> F32:
    """The action that steps each cell from its observed power and tilt to a target."""
    cells = _cells(observations)
    action = np.empty((len(cells), measures.CELLS, 4))
    action[..., _POWER] = (power - (measures.POWER_CENTRE + measures.POWER_SCALE * cells[..., 0])) / 4.0
    action[..., _TILT] = tilt - (measures.TILT_CENTRE + measures.TILT_SCALE * cells[..., 1])
    action[..., _FAIRNESS] = fairness
    action[..., _CIO] = np.asarray(cio) / measures.CIO_SCALE
    return np.clip(action, -1.0, 1.0).reshape(len(cells), -1).astype(np.float32)
