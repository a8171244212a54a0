"""Intervals for a mean: Student's t and the percentile bootstrap.

Called by episodes.py, benchmarks and reports. Fixed samples only: for data that people look at while they come in, use
sequential.py. Never draws from a global generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64

_ROWS_AT_ONCE = 4_000_000  # resampled numbers held in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """`mean` of the values, and the bounds that cover the true one with probability `level`."""

    mean: float
    low: float
    high: float
    level: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "level": self.level}


def t_interval(values: F64, *, level: float = 0.95) -> Interval:
    """Student's interval (Student 1908): exact for normal values, near enough from a few dozen of any bounded kind.

    `values` (n,), n >= 2; fewer have no spread to judge by.
    """
    _check(values, level=level)
    mean = float(values.mean())
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Interval(mean=mean, low=mean - half, high=mean + half, level=level)


def bootstrap(values: F64, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2_000) -> Interval:
    """Percentile bootstrap of the mean (Efron & Tibshirani 1993, chapter 13): for skewed values, n of 30 or more.

    `values` (n,), n >= 2. It is too narrow for small n (by about sqrt(1 - 1/n), and it knows no tail it has not seen).
    """
    _check(values, level=level)
    n = len(values)
    at_once = max(1, _ROWS_AT_ONCE // n)
    means = np.concatenate(
        [
            values[rng.integers(0, n, size=(min(at_once, resamples - done), n))].mean(axis=1)
            for done in range(0, resamples, at_once)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high), level=level)


def _check(values: F64, *, level: float) -> None:
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        given = f"shape {values.shape}, finite: {bool(np.isfinite(values).all())}"
        raise InvalidInput("values of an interval", given=given, expected="two or more finite numbers (n,)")
    if not 0 < level < 1:
        raise InvalidInput("level of an interval", given=level, expected="between 0 and 1", cure="Give 0.95 for 95 %.")
