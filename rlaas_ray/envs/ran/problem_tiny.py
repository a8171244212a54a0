"""Problem type `5g_tiny`: power and tilt of three sectors in one step of the tiny network, as a pymoo problem of 729 solutions.

Met by optimize/problems.py and by tests that know its whole front. The same table as the tiny environment; never moves time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs.ran import measures, radio, tiny
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64

_BUSIEST = 3
_SIGN = np.array([1.0, -1.0, 1.0, -1.0])


class RanTinyProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """x is int (n, 3), 0..8 as the action of RanControl-tiny: power (30, 40, 46)[k // 3] dBm, tilt (4, 8, 12)[k % 3] degrees."""

    MODES: ClassVar[Mapping[str, tuple[float, float, float, float]]] = measures.MODES
    objectives = tuple(measures.OBJECTIVES)

    def __init__(self, *, mode: str = "normal", step: int = _BUSIEST) -> None:
        if mode not in self.MODES:
            raise InvalidInput(
                "mode of problem 5g_tiny",
                given=mode,
                expected=", ".join(self.MODES),
                cure=nearest(mode, list(self.MODES)),
            )
        if not 0 <= step < tiny.STEPS:
            raise InvalidInput("step of problem 5g_tiny", given=step, expected=f"0 to {tiny.STEPS - 1}")
        self.weights = np.array(self.MODES[mode], dtype=np.float64)
        self.table = tiny.table()[0][step]
        capacity = float(self.table[:, 1].max())
        self.box = (
            np.array([0.0, -capacity, tiny.CELLS * radio.CELL_SLEEP_W, -1.0]),
            np.array([radio.MAX_LATENCY_S, 0.0, tiny.CELLS * radio.CELL_MAX_W, 0.0]),
        )
        super().__init__(n_var=tiny.CELLS, n_obj=4, xl=0.0, xu=tiny.CHOICES - 1.0, vtype=int)

    def natural(self, x: F64) -> F64:
        """The objectives in natural units, rounded to the next whole action. x (n, 3) -> (n, 4)."""
        given = np.asarray(x, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != tiny.CELLS or not ((given >= 0) & (given <= tiny.CHOICES - 1)).all():
            raise InvalidInput("variables of problem 5g_tiny", given=given.shape, expected="(n, 3) from 0 to 8")
        choice = np.rint(given).astype(np.int64)
        number = (choice[:, 0] * tiny.CHOICES + choice[:, 1]) * tiny.CHOICES + choice[:, 2]
        return np.asarray(self.table[number], dtype=np.float64)

    def _evaluate(self, x: Any, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = self.natural(x) * _SIGN
