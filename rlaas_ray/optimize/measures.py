"""How good a point of a front is under weights: the figures that a choice ranks by, for many weights at once.

Used by choice.py (one row of weights) and sensitivity.py (thousands). Every figure is larger for a better point. A Frame fixes
ideal, anti-ideal and norms, so that points that come later reorder nothing. Never decides, draws or reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlaas_ray.specs.arrays import F64, Bool
from rlaas_ray.specs.choose import Normalisation

# The share of the plain sum in an achievement: keeps weakly dominated points from winning (Wierzbicki 1980).
AUGMENTED = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """What one session of decisions is measured in: per objective the best, the worst and the norm; natural units, all (m,).

    Made once by `frame` and handed on, it keeps the order of points when others are added (no rank reversal).
    """

    ideal: F64
    anti_ideal: F64
    norm: F64  # what TOPSIS divides by; > 0
    minimise: Bool

    @property
    def span(self) -> F64:
        """From the anti-ideal to the ideal, > 0: a constant objective counts as 1."""
        width = np.abs(self.ideal - self.anti_ideal)
        return np.where(width > 0, width, 1.0)

    @property
    def varies(self) -> Bool:
        """Which objectives differ at all (m,)."""
        return np.asarray(self.ideal != self.anti_ideal)

    def regret(self, front: F64) -> F64:
        """(n, m) -> (n, m): 0 at the ideal, 1 at the anti-ideal; beyond them outside [0, 1]."""
        return np.asarray((front - self.ideal) * np.where(self.minimise, 1.0, -1.0) / self.span)


def frame(front: F64, *, minimise: Bool, normalisation: Normalisation = "vector") -> Frame:
    """The frame of these rows. front (n, m) finite, minimise (m,) bool."""
    low, high = front.min(axis=0), front.max(axis=0)
    ideal, anti_ideal = np.where(minimise, low, high), np.where(minimise, high, low)
    if normalisation == "vector":
        # Scaled by the largest entry first: squares of 1e200 would overflow.
        largest = np.abs(front).max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        norm = safe * np.sqrt(np.square(front / safe).sum(axis=0))
    else:
        norm = high - low
    return Frame(ideal=ideal, anti_ideal=anti_ideal, norm=np.where(norm > 0, norm, 1.0), minimise=minimise)


class Measure(Protocol):
    """One way to rank. Weights are rows of a simplex."""

    def score(self, weight: F64) -> F64:
        """Of weights (..., s, m) for all points: (..., s, n), larger is better."""
        ...

    def each(self, rows: slice) -> Measure:
        """The points of `rows` one by one, for a batch of weights each: score takes (k, s, m) and gives (k, s, 1)."""
        ...

    def turns(self, chosen: int, *, start: F64, step: F64) -> F64:
        """(n, q): every t at which a point and the chosen one can change places under weights start + t step.

        Some are no change, NaN stands for none; between two neighbours the sign of the difference is constant.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Closeness:
    """TOPSIS (Hwang & Yoon 1981): D- / (D+ + D-), the distances weighted and Euclidean; 0.5 where both are 0.

    plus, minus (..., m, n): squared unweighted distances to the ideal and to the anti-ideal.
    """

    plus: F64
    minus: F64

    def score(self, weight: F64) -> F64:
        """As Measure says."""
        squared = np.square(weight)
        plus, minus = np.sqrt(squared @ self.plus), np.sqrt(squared @ self.minus)
        both = plus + minus
        return np.asarray(np.where(both > 0, minus / np.where(both > 0, both, 1.0), 0.5))

    def each(self, rows: slice) -> Closeness:
        """As Measure says."""
        return Closeness(plus=_each(self.plus, rows), minus=_each(self.minus, rows))

    def turns(self, chosen: int, *, start: F64, step: F64) -> F64:
        """Equal closeness is equal D-/D+, whose squares are quadratic in t: the roots of a quartic."""
        squares = np.stack([start**2, 2 * start * step, step**2])
        plus, minus = (squares @ self.plus).T, (squares @ self.minus).T  # (n, 3), ascending powers of t
        other = np.broadcast_to
        quartic = _product(other(minus[chosen], minus.shape), plus) - _product(minus, other(plus[chosen], plus.shape))
        return _roots(quartic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PseudoWeights:
    """Minus the distance from a point's pseudo-weights (Deb 2001) to the weights wanted. share (..., m, n), columns sum to 1."""

    share: F64

    def score(self, weight: F64) -> F64:
        """As Measure says."""
        # Differences, not |a|^2 - 2ab + |b|^2, which would lose half of the digits near 0; one objective at a time.
        squared = np.zeros((*weight.shape[:-1], self.share.shape[-1]))
        for i in range(weight.shape[-1]):
            squared += np.square(weight[..., i, None] - self.share[..., i, None, :])
        return np.asarray(-np.sqrt(squared))

    def each(self, rows: slice) -> PseudoWeights:
        """As Measure says."""
        return PseudoWeights(share=_each(self.share, rows))

    def turns(self, chosen: int, *, start: F64, step: F64) -> F64:
        """The points as near as the chosen one lie on a plane between the two: one crossing."""
        size = np.square(self.share).sum(axis=0)
        apart = self.share - self.share[:, [chosen]]
        return _quotient(size - size[chosen] - 2 * (start @ apart), by=2 * (step @ apart))[:, None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Achievement:
    """Minus max_i w_i (f_i - z_i) + 1e-4 sum_i w_i (f_i - z_i) (Wierzbicki 1980), f and the aspirations z in spans.

    excess (..., m, n): how far a point is beyond the aspiration, > 0 where it misses. Points of non-convex fronts can win.
    """

    excess: F64

    def score(self, weight: F64) -> F64:
        """As Measure says."""
        worst = weight[..., 0, None] * self.excess[..., 0, None, :]
        for i in range(1, weight.shape[-1]):
            np.maximum(worst, weight[..., i, None] * self.excess[..., i, None, :], out=worst)
        return np.asarray(-(worst + AUGMENTED * (weight @ self.excess)))

    def each(self, rows: slice) -> Achievement:
        """As Measure says."""
        return Achievement(excess=_each(self.excess, rows))

    def turns(self, chosen: int, *, start: F64, step: F64) -> F64:
        """Each side is the largest of m lines in t: they meet where two lines do."""
        at, slope = (
            (v[:, None] * self.excess + AUGMENTED * (v @ self.excess)).T  # (n, m)
            for v in (start, step)
        )
        apart, steeper = at[chosen][None, :, None] - at[:, None, :], slope[:, None, :] - slope[chosen][None, :, None]
        return _quotient(apart.reshape(len(at), -1), by=steeper.reshape(len(at), -1))


def closeness(front: F64, *, within: Frame) -> Closeness:
    """TOPSIS of these rows in that frame."""
    plus = np.square((front - within.ideal) / within.norm).T
    minus = np.square((front - within.anti_ideal) / within.norm).T
    return Closeness(plus=np.ascontiguousarray(plus), minus=np.ascontiguousarray(minus))


def pseudo_weights(front: F64, *, within: Frame) -> F64:
    """(n, m), rows sum to 1: in which objectives a point is good. A constant objective has none; a row without merit has 1/m."""
    merit = np.maximum(1.0 - within.regret(front), 0.0) * within.varies
    total = merit.sum(axis=1, keepdims=True)
    return np.where(total > 0, merit / np.where(total > 0, total, 1.0), 1.0 / front.shape[1])


def achievement(front: F64, *, within: Frame, targets: F64) -> Achievement:
    """Of these rows towards targets (m,), natural units."""
    return Achievement(excess=np.ascontiguousarray((within.regret(front) - within.regret(targets[None])).T))


def _each(features: F64, rows: slice) -> F64:
    return np.asarray(features.T[rows, :, None])


def _product(a: F64, b: F64) -> F64:
    """Products of polynomials row by row, ascending powers: (n, 3), (n, 3) -> (n, 5)."""
    product = np.zeros((len(a), 5))
    for i in range(3):
        product[:, i : i + 3] += a[:, i, None] * b
    return product


def _roots(polynomial: F64) -> F64:
    """Real parts of the roots of rows of ascending powers: (n, q + 1) -> (n, q); NaN where a row is zero throughout."""
    largest = np.abs(polynomial).max(axis=1, keepdims=True)
    scaled = polynomial / np.where(largest > 0, largest, 1.0)
    # A leading power that is missing has its root at infinity; far beyond [0, 1] is as good.
    lead = np.where(np.abs(scaled[:, -1:]) < 1e-14, 1e-14, scaled[:, -1:])
    degree = polynomial.shape[1] - 1
    companion = np.zeros((len(polynomial), degree, degree))
    companion[:, np.arange(1, degree), np.arange(degree - 1)] = 1.0
    companion[:, :, -1] = -(scaled / lead)[:, :degree]
    found = np.linalg.eigvals(companion).real
    return np.where(largest > 0, found, np.nan)


def _quotient(value: F64, *, by: F64) -> F64:
    """Row by row, NaN where `by` is 0."""
    return np.where(by != 0, value / np.where(by != 0, by, 1.0), np.nan)
