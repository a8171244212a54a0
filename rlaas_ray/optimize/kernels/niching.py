"""What NSGA-III adds: a plane through the extremes as the unit of length, directions as niches, survival by niche.

Called by nsga3.py; spea2.py uses the normaliser. No loop over rows; never draws but in `fill`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Array

# As in pymoo: a range below this is none, a value below _SMALL off the ideal is on it, _STEEP is the weight across an axis.
_NO_RANGE = 1e-6
_SMALL = 1e-3
_STEEP = 1e6
# Rows by directions that are looked at together: 32 MB, and far more than a usual population has.
_CELLS = 4_000_000


@dataclass(slots=True, kw_only=True, eq=False)
class Normaliser:
    """Ideal and nadir as the search has seen them (Deb & Jain 2014; Blank, Deb & Roy 2019). All (m,), extremes (m, m)."""

    ideal: F64
    worst: F64
    nadir: F64
    extremes: F64  # (0, m) before the first update

    @classmethod
    def fresh(cls, objectives: int) -> Normaliser:
        """Before any row was seen."""
        high = np.full(objectives, np.inf)
        return cls(ideal=high, worst=-high, nadir=high, extremes=np.empty((0, objectives)))

    @classmethod
    def read(cls, arrays: Mapping[str, Array]) -> Normaliser:
        """From what `arrays` gave."""
        return cls(**{key: arrays[key].astype(np.float64) for key in ("ideal", "worst", "nadir", "extremes")})

    def arrays(self) -> dict[str, Array]:
        """What a state holds of it."""
        return {"ideal": self.ideal, "worst": self.worst, "nadir": self.nadir, "extremes": self.extremes}

    def update(self, f: F64, *, front: F64) -> None:
        """With the rows f (n, m) of a generation and its first front (k, m), k >= 1."""
        # Objectives as rows: reductions then run along memory.
        columns = np.ascontiguousarray(front.T)
        highest = f.max(axis=0)
        self.ideal = np.minimum(self.ideal, columns.min(axis=1))
        self.worst = np.maximum(self.worst, highest)
        known = np.concatenate([self.extremes.T, columns], axis=1)
        self.extremes = known.T[_extreme(known - self.ideal[:, None])]
        cut = _intercepts(self.extremes - self.ideal)
        # Without a sensible plane the front's own worst; where that is the ideal, the worst of all.
        found = columns.max(axis=1) if cut is None else np.minimum(cut + self.ideal, self.worst)
        self.nadir = np.where(found - self.ideal <= _NO_RANGE, highest, found)

    def scaled(self, f: F64) -> F64:
        """Rows f (n, m) with the ideal at 0 and the nadir at 1."""
        size = self.nadir - self.ideal
        return (f - self.ideal) / np.where(size == 0.0, 1e-12, size)


def _extreme(off: F64) -> I64:
    """(m,) columns of off (m, k), distances from the ideal, that lie nearest to each axis; the first of equals."""
    off[off < _SMALL] = 0.0
    return np.asarray((_steep(len(off)) * off).max(axis=1).argmin(axis=1))


@lru_cache(maxsize=32)
def _steep(objectives: int) -> F64:
    weight = np.full((objectives, objectives, 1), _STEEP)
    weight[np.arange(objectives), np.arange(objectives)] = 1.0
    return weight


def _intercepts(off: F64) -> F64 | None:
    """(m,) where the plane through the rows of off (m, m) cuts the axes; None where it cuts none of use."""
    try:
        plane = np.linalg.solve(off, np.ones(len(off)))
    except np.linalg.LinAlgError:
        return None
    # Nearly singular, the plane is infinite somewhere, and then it meets nothing.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cut = 1.0 / plane
        met = np.abs(off @ plane - 1.0).max() <= 1e-5
    return np.asarray(cut) if met and (cut > _NO_RANGE).all() else None


def associate(scaled: F64, *, unit: F64) -> tuple[I64, F64]:
    """Nearest direction of each row and the distance to it. scaled (n, m) >= 0, unit (r, m) of length 1 -> (n,), (n,)."""
    niche, length = np.empty(len(scaled), dtype=np.int64), np.empty(len(scaled))
    step = max(1, _CELLS // len(unit))
    for start in range(0, len(scaled), step):
        rows = slice(start, start + step)
        along = scaled[rows] @ unit.T
        niche[rows] = along.argmax(axis=1)
        length[rows] = along[np.arange(len(along)), niche[rows]]
    nearest = unit[niche]
    nearest *= length[:, None]
    nearest -= scaled
    return niche, np.sqrt(np.einsum("ij,ij->i", nearest, nearest))


def fill(niche: I64, distance: F64, *, held: I64, need: int, rng: np.random.Generator) -> I64:
    """`need` of the candidates, from the least held niches: niche (c,), distance (c,), held (r,) survivors so far.

    The distribution of Deb & Jain's loop without the loop: a niche's candidates stand in line (where it holds nobody yet the
    closest first, else at random), the one at place p would join as number held + p, and the lowest numbers go in.
    """
    line, last = rng.random((2, len(niche)))
    nearest = np.full(len(held), np.inf)
    np.minimum.at(nearest, niche, distance)
    heads = np.flatnonzero((distance == nearest[niche]) & (held[niche] == 0))
    if len(heads) and np.bincount(niche[heads]).max() > 1:
        # As near to the same direction: chance says who is first, the others stand among the rest.
        heads = rng.permutation(heads)
        heads = heads[np.unique(niche[heads], return_index=True)[1]]
    line[heads] = -1.0
    order = np.lexsort((line, niche))
    ranked = niche[order]
    place = np.arange(len(ranked)) - ranked.searchsorted(ranked)
    return order[np.lexsort((last, held[ranked] + place))[:need]]
