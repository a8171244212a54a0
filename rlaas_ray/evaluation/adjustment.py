"""Ridge regression of an outcome on what was known of the unit before its assignment.

Used by `sequential.py` for `adjust: first_observation`, fitted once on the units before the canary. The prediction is fixed
before any label is seen, so the tests stay valid however bad it is; a good one takes the spread out that both arms share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64

WIDEST = 32  # of a raw observation: beyond it a few hundred units do not carry a regression
PENALTY = 1.0  # on standardised features
LEAST_UNITS = 100

Covariates = Callable[[F32], F64]


def raw_observation(observations: F32) -> F64:
    """The encoded observation itself (n, d), for environments that give no covariates. Raises InvalidInput over 32 wide."""
    if observations.ndim != 2 or observations.shape[1] > WIDEST:
        raise InvalidInput(
            "`adjust: first_observation` for an environment that gives no covariates",
            given=f"an observation of shape {observations.shape}",
            expected=f"(n, d) with d of at most {WIDEST}",
            cure="use `adjust: none`, or give the environment a `covariates(observations)`.",
        )
    return observations.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regression:
    """`centre`, `scale`, `weight` (k,); `spread`: the residuals' standard deviation, corrected for the fitted numbers."""

    centre: F64
    scale: F64
    weight: F64
    intercept: float
    spread: float

    def predict(self, features: F64) -> float:
        """The expected outcome of one unit, features (k,); a feature that is not finite counts as average."""
        standard = (features - self.centre) / self.scale
        terms = np.where(np.isfinite(standard), np.clip(standard, -10.0, 10.0), 0.0) * self.weight
        # Not a BLAS product: its rounding may change with the threads of the machine.
        return self.intercept + float(np.add.reduce(terms))


def fit(features: F64, outcomes: F64) -> Regression | None:
    """Ridge of outcomes (n,) on features (n, k); None when there are fewer than 100 units or three per feature."""
    count, width = features.shape
    if count < max(LEAST_UNITS, 3 * width):
        return None
    finite = np.where(np.isfinite(features), features, np.nan)
    known = np.isfinite(features).sum(axis=0)
    centre = np.where(known > 0, np.nansum(finite, axis=0) / np.maximum(known, 1), 0.0)
    filled = np.where(np.isfinite(features), features, centre) - centre
    deviation = np.sqrt(np.einsum("nk,nk->k", filled, filled) / count)
    # A constant column holds rounding noise only, which standardising would blow up.
    scale = np.where(deviation > 1e-9 * (1.0 + np.abs(centre)), deviation, np.inf)
    standard = np.clip(filled / scale, -10.0, 10.0)
    intercept = float(outcomes.mean())
    gram = np.einsum("ni,nj->ij", standard, standard) + PENALTY * np.eye(width)
    weight = np.linalg.solve(gram, np.einsum("ni,n->i", standard, outcomes - intercept))
    residual = outcomes - intercept - np.einsum("nk,k->n", standard, weight)
    spread = float(np.sqrt(np.dot(residual, residual) / max(count - width - 1, 1)))
    return Regression(centre=centre, scale=scale, weight=weight, intercept=intercept, spread=spread)
