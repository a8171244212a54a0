"""Constraint violation, failed rows, and how much violation a schedule still allows.

Called by the algorithms. Feasibility first is the default: a row that violates less is better, whatever its objectives.
"""

from __future__ import annotations

import math

import numpy as np

from rlaas_ray.specs.arrays import F64, Bool

# An equality is kept when it is met this closely.
EQUAL_WITHIN = 1e-4


def violation(g: F64, h: F64) -> F64:
    """(n,) sum of max(g, 0) and of max(|h| - 1e-4, 0). NaN counts as infinitely violated. g (n, p), h (n, q)."""
    total: F64 = np.zeros(len(g))
    if g.shape[1]:
        total += np.maximum(g, 0.0).sum(axis=1)
    if h.shape[1]:
        total += np.maximum(np.abs(h) - EQUAL_WITHIN, 0.0).sum(axis=1)
    if g.shape[1] or h.shape[1]:
        total[np.isnan(total)] = np.inf
    return total


def with_failures(f: F64, cv: F64) -> tuple[F64, F64]:
    """Objectives f (n, m) and violations cv (n,), where a row that is not finite is infinitely bad and infinitely violated."""
    if math.isfinite(f.sum()):
        return f, cv
    failed: Bool = ~np.asarray(np.isfinite(f).all(axis=1))
    return np.where(failed[:, None], np.inf, f), np.where(failed, np.inf, cv)


def allowed(first: float, *, generation: int, horizon: int) -> float:
    """The violation that counts as none (Takahama & Sakai 2006): from `first`, linear to 0 at 80 % of `horizon` generations."""
    return first * max(0.0, 1.0 - generation / (0.8 * horizon))


def first_allowed(cv: F64) -> float:
    """Where the schedule begins: the violation of the best fifth of the first population. cv (n,)."""
    finite = cv[np.isfinite(cv)]
    return float(np.quantile(finite, 0.2)) if len(finite) else 0.0
