"""The Universal Scalability Law fitted to published figures: ContTune's Nexmark Q1 map operator.

Called by tests, by docs, and by whoever fits an operator of their own. The environment uses the result, which queries.py holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64

# Instances -> records/s, mean of 5 runs: README of ljqcodelove/ContTune (ContTune, VLDB 2023).
CONTTUNE_Q1 = {
    1: 529_573.0,
    2: 966_817.0,
    4: 1_829_696.0,
    6: 2_535_503.0,
    7: 2_936_889.0,
    8: 3_118_478.0,
    10: 3_721_099.0,
    14: 4_624_714.0,
    15: 4_967_828.0,
    20: 6_350_677.0,
    21: 6_465_250.0,
    25: 7_089_387.0,
    26: 7_476_392.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """rate of one instance (records/s), sigma, kappa; relative errors of the fit."""

    rate: float
    sigma: float
    kappa: float
    mean_error: float
    max_error: float


def fit(points: dict[int, float], *, rate: float | None = None) -> Fit:
    """Least squares on the relative error, sigma and kappa not negative; `rate` pins the single instance.

    Raises InvalidInput for fewer than three points or values that are not positive.
    """
    if len(points) < 3 or not all(p >= 1 and np.isfinite(v) and v > 0 for p, v in points.items()):
        raise InvalidInput(
            "points of a scalability law",
            given=dict(points),
            expected="three or more of instances (at least 1) -> records/s above 0",
            cure="Measure more settings.",
        )
    count = np.asarray(sorted(points), dtype=np.float64)
    seen = np.asarray([points[int(p)] for p in count])
    scale = float(seen[0] / count[0])

    def law(free: F64) -> F64:
        per_instance = rate if rate is not None else free[2] * scale
        found: F64 = per_instance * count / (1.0 + free[0] * (count - 1.0) + free[1] * count * (count - 1.0))
        return found

    start = [0.02, 1e-5] if rate is not None else [0.02, 1e-5, 1.0]
    solved = least_squares(
        lambda free: law(free) / seen - 1.0, start, bounds=(0.0, np.inf), xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    error = np.abs(law(solved.x) / seen - 1.0)
    return Fit(
        rate=rate if rate is not None else float(solved.x[2] * scale),
        sigma=float(solved.x[0]),
        kappa=float(solved.x[1]),
        mean_error=float(error.mean()),
        max_error=float(error.max()),
    )
