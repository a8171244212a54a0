"""Front: the frozen result of a search; Archive: every non-dominated point that a search has evaluated, bounded.

Made by search.py; its JSON is the result of a run of kind `optimize`. Never searches and never draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np

from rlaas_ray.optimize.kernels import ranking
from rlaas_ray.specs.arrays import F64, I64

SHOWN_AT_MOST = 500
TRACED_AT_MOST = 10_000  # generations in the document's trace; of a longer search every second, third, ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Front:
    """k non-dominated points in natural units, the chosen one, and how the search got there.

    `hypervolume` is the share of the box that the returned points dominate, in [0, 1], where the problem tells its ideal,
    else `hypervolume_raw`, in units of the objectives; `trace` (generations,) the same as `hypervolume` for all points found
    up to each generation, without the anchors, so that it shows the search and nothing else.
    """

    objectives: tuple[tuple[str, str, str], ...]
    x: F64  # (k, d)
    values: F64  # (k, m)
    shown: I64  # (s,) the points of the document, at most 500: the choice is among these, so that it can be made again
    score: float  # the chosen one's, by the method that chose
    weight: F64  # (m,)
    chosen: int
    method: str  # that chose it
    reason: str
    named: dict[str, Any] | None  # the chosen point by the names of its variables, where they have names
    hypervolume: float
    hypervolume_raw: float
    trace: F64  # (generations,)
    box: tuple[F64, F64]  # ideal, nadir, natural units
    anchors: dict[str, F64]  # name -> (m,), natural units
    seed: int
    generations: int
    evaluations: int
    failed: int  # evaluations that gave nothing finite
    seconds: float
    ended_by: str  # the rule that ended it: a Reason of stopping.py
    ended_because: str
    algorithm: str
    variables_digest: str

    @property
    def stopped(self) -> bool:
        """Whether somebody ended it."""
        return self.ended_by == "stop"

    def to_json(self) -> dict[str, Any]:
        """The result document: the shown points, one x."""
        names = [name for name, _, _ in self.objectives]
        chosen = dict(zip(names, self.values[self.chosen].tolist(), strict=True))
        anchors = {name: dict(zip(names, row.tolist(), strict=True)) for name, row in self.anchors.items()}
        return {
            "objectives": [{"name": n, "unit": u, "direction": d} for n, u, d in self.objectives],
            "front": self.values[self.shown].tolist(),
            "front_size": len(self.values),
            "chosen": {
                "index": int(np.searchsorted(self.shown, self.chosen)),
                "objectives": chosen,
                "score": self.score,
                "method": self.method,
                "reason": self.reason,
                "x": self.x[self.chosen].tolist(),
                **({} if self.named is None else {"variables": self.named}),
            },
            "weights": dict(zip(names, self.weight.tolist(), strict=True)),
            "hypervolume": self.hypervolume,
            "hypervolume_raw": self.hypervolume_raw,
            "hypervolume_trace": self.trace[:: -(-len(self.trace) // TRACED_AT_MOST) or 1].tolist(),
            "hypervolume_stride": -(-len(self.trace) // TRACED_AT_MOST) or 1,
            "box": {"ideal": self.box[0].tolist(), "nadir": self.box[1].tolist()},
            "anchors": anchors,
            "seed": self.seed,
            "generations": self.generations,
            "evaluations": self.evaluations,
            "failed": self.failed,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "ended_by": self.ended_by,
            "ended_because": self.ended_because,
            "algorithm": self.algorithm,
            "variables_digest": self.variables_digest,
            "summary": self._summary(chosen),
        }

    def _summary(self, chosen: dict[str, float]) -> str:
        point = ", ".join(f"{n} {chosen[n]:.4g}{'' if u == '1' else ' ' + u}" for n, u, _ in self.objectives)
        return (
            f"{len(self.values)} non-dominated points from {self.evaluations:,} evaluations in {self.seconds:.1f} s "
            f"({self.ended_because}; seed {self.seed}); hypervolume {self.hypervolume:.4f}; chosen: {point}"
        )


def thinned(values: F64, *, limit: int) -> I64:
    """Indices of at most `limit` rows, those with the most room around them, the ends of every objective among them."""
    kept = np.arange(len(values), dtype=np.int64)
    while len(kept) > limit:
        # A fifth at a time: crowding after removal is then nearly right.
        goal = max(limit, round(0.8 * len(kept)))
        room = ranking.crowding(values[kept], rank=np.zeros(len(kept), dtype=np.int64))
        kept = np.sort(kept[np.argsort(-room, kind="stable")[:goal]])
    return kept


class Archive:
    """All non-dominated points seen, thinned to `limit` by crowding; the extremes of every objective are kept.

    NSGA-III's niching drops extreme points, so the population's last front is not the answer. Variables lie in slots that
    are reused: with a thousand of them, copying all points in every generation took a third of a search.
    """

    def __init__(self, *, variables: int, objectives: int, limit: int = 2000) -> None:
        self._limit = limit
        self._store: F64 = np.empty((0, variables))
        self._slot: I64 = np.empty(0, dtype=np.int64)  # of each point, in the store
        self.f: F64 = np.empty((0, objectives))  # minimised

    @property
    def x(self) -> F64:
        """(k, d) the variables of the points, a copy."""
        return self._store[self._slot]

    def load(self, x: F64, f: F64) -> None:
        """Hold these points and no others; they must be non-dominated."""
        self._store, self._slot, self.f = np.array(x), np.arange(len(x)), np.array(f)

    def add(self, x: F64, f: F64) -> bool:
        """Offer points; rows that are not finite never enter. Tells whether any entered."""
        good = np.isfinite(f).all(axis=1)
        x, f = x[good], f[good]
        both = np.concatenate([self.f, f])
        kept = np.flatnonzero(moocore.is_nondominated(both)) if len(both) else np.empty(0, dtype=np.int64)
        if not (kept >= len(self.f)).any():
            return False
        if len(kept) > self._limit:
            kept = kept[thinned(both[kept], limit=self._limit)]
        old, new = kept[kept < len(self.f)], kept[kept >= len(self.f)] - len(self.f)
        self._slot = np.concatenate([self._slot[old], self._placed(x[new], beside=self._slot[old])])
        self.f = both[kept]
        return True

    def _placed(self, x: F64, *, beside: I64) -> I64:
        """The slots of new rows: those that nobody has, more where they do not suffice."""
        missing = len(beside) + len(x) - len(self._store)
        if missing > 0:
            more = min(max(missing, len(self._store)), max(self._limit - len(self._store), missing))
            self._store = np.concatenate([self._store, np.empty((more, self._store.shape[1]))])
        free = np.ones(len(self._store), dtype=np.bool_)
        free[beside] = False
        slots = np.flatnonzero(free)[: len(x)]
        self._store[slots] = x
        return slots


def hypervolume(f: F64, *, ideal: F64, nadir: F64) -> float:
    """What f dominates below the nadir, in boxes from ideal to nadir. f (n, m) minimised; points beyond the nadir add nothing.

    With a true ideal it lies in [0, 1].
    """
    size = np.where(nadir > ideal, nadir - ideal, 1.0)
    scaled = (f - ideal) / size
    inside = scaled[(scaled < 1.0).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=np.ones(f.shape[1]))) if len(inside) else 0.0
