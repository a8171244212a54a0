"""Which point of a front to take, by which method, and why in words: plain functions on arrays.

Called by search.py, choosing.py, the quickstart and by users on their own tables. Dominated rows are flagged and never chosen.
Never searches, draws or reads a file; a Frame that is handed on keeps the order of points when others are added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import moocore
import numpy as np

from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.optimize import knee, measures
from rlaas_ray.optimize.measures import Frame, Measure
from rlaas_ray.specs.arrays import F64, Bool
from rlaas_ray.specs.choose import Method, Normalisation

METHODS: tuple[Method, ...] = get_args(Method)
# Scores closer than this are a tie: they differ by rounding, not by merit.
TIE = 1e-12
HUGE = 1e300  # beyond it, differences overflow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The chosen row and why. `score` (n,) is the method's own figure, larger is better, NaN for rows that were left out.

    `runner_up` is the best other point, None where there is none; `measure` ranks the rows `candidates` under any weights,
    None for the knee, which takes none.
    """

    index: int
    score: F64  # (n,)
    method: Method
    weight: F64  # (m,), sum 1
    frame: Frame
    dominated: Bool  # (n,)
    runner_up: int | None
    reason: str
    measure: Measure | None
    candidates: Bool  # (n,)

    @property
    def ideal(self) -> F64:
        """The best value of each objective (m,), natural units."""
        return self.frame.ideal

    @property
    def anti_ideal(self) -> F64:
        """The worst value of each objective (m,), natural units."""
        return self.frame.anti_ideal


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What several choices on one front share: units, the frame once it is fixed, and what becomes of dominated rows.

    `labels`: (name, unit) of each objective, for the reason. `keep_dominated` lets dominated rows count in ideal, anti-ideal
    and norms, as textbook tables do; they are flagged and not chosen all the same.
    """

    labels: Sequence[tuple[str, str]] | None = None
    frame: Frame | None = None
    normalisation: Normalisation = "vector"
    keep_dominated: bool = False


def choose(
    front: F64,
    *,
    method: Method = "topsis",
    minimise: Bool,
    weights: F64 | None = None,
    targets: F64 | None = None,
    session: Session = Session(),
) -> Choice:
    """One point of `front` (n, m) float64, finite; minimise (m,) bool; weights (m,) >= 0, scaled to sum 1 (None: equal).

    topsis: nearest the ideal and farthest from the anti-ideal. pseudo_weights: the point whose own weights are nearest.
    achievement: towards `targets` (m,), natural units. minimax: the smallest largest weighted regret, which is achievement
    towards the ideal. knee: where the front bends; no weights. Ties go to the lower weighted regret, then to the lower index.
    Raises InvalidInput.
    """
    weight = _checked(front, weights, minimise=minimise)
    _check_method(method, weights=weights, targets=targets, columns=front.shape[1])
    dominated = dominated_rows(front, minimise=minimise)
    candidates = np.ones(len(front), dtype=np.bool_) if session.keep_dominated else ~dominated
    rows = front[candidates]
    frame = session.frame or measures.frame(rows, minimise=minimise, normalisation=session.normalisation)
    if not np.array_equal(frame.minimise, minimise):
        raise InvalidInput(
            "frame of a choice", given=frame.minimise.tolist(), expected=f"directions {minimise.tolist()}"
        )
    measure = _measure(method, rows, within=frame, targets=targets)
    bent = knee.knee(frame.regret(front[~dominated])) if measure is None else None
    score = np.full(len(front), np.nan)
    if measure is not None:
        score[candidates] = measure.score(weight[None])[0]
    elif bent is not None:
        score[~dominated] = bent[0]
    regret = frame.regret(front) @ weight
    index = best(score, regret, among=~dominated)
    others = ~dominated & (front != front[index]).any(axis=1)
    second = best(score, regret, among=others) if others.any() else None
    made = Choice(
        index=index,
        score=score,
        method=method,
        weight=weight,
        frame=frame,
        dominated=dominated,
        runner_up=second,
        reason="",
        measure=measure,
        candidates=candidates,
    )
    words = _reason(front, made, labels=session.labels, targets=targets, basis=bent[1] if bent else None)
    return dataclasses.replace(made, reason=words)


def topsis(front: F64, weight: F64, *, minimise: Bool, normalisation: Normalisation = "vector") -> Choice:
    """`choose` by TOPSIS on a table as it stands: dominated rows count in ideal, anti-ideal and norms.

    front (n, m) float64, weight (m,) not negative (scaled to sum 1 here), minimise (m,) bool. A constant column counts
    nothing; when all rows are equal every score is 0.5. Libraries often scale by min-max where textbooks scale by the
    vector norm; the two can rank differently.
    """
    session = Session(normalisation=normalisation, keep_dominated=True)
    return choose(front, minimise=minimise, weights=weight, session=session)


def dominated_rows(front: F64, *, minimise: Bool) -> Bool:
    """(n,): rows than which another is nowhere worse and somewhere better; equal rows do not dominate each other."""
    kept = moocore.is_nondominated(front * np.where(minimise, 1.0, -1.0), keep_weakly=True)
    return ~np.asarray(kept, dtype=np.bool_)


def best(score: F64, regret: F64, *, among: Bool) -> int:
    """The highest score; of those that tie the lowest regret; of those the lowest index."""
    rows = np.flatnonzero(among)
    rows = rows[score[rows] >= score[rows].max() - TIE]
    rows = rows[regret[rows] <= regret[rows].min() + TIE]
    return int(rows[0])


def _measure(method: Method, rows: F64, *, within: Frame, targets: F64 | None) -> Measure | None:
    if method == "topsis":
        return measures.closeness(rows, within=within)
    if method == "pseudo_weights":
        share = measures.pseudo_weights(rows, within=within)
        return measures.PseudoWeights(share=np.ascontiguousarray(share.T))
    if method == "knee":
        return None
    return measures.achievement(rows, within=within, targets=within.ideal if targets is None else targets)


def _reason(
    front: F64, made: Choice, *, labels: Sequence[tuple[str, str]] | None, targets: F64 | None, basis: knee.Basis | None
) -> str:
    named = list(labels) if labels is not None else [(f"objective {i + 1}", "1") for i in range(front.shape[1])]
    row = front[made.index]
    candidates = int((~made.dominated).sum())
    parts = [f"Point {made.index} of {candidates} non-dominated by {_by(made, basis)}"]
    leads = [_value(label, x) for label, x, top in zip(named, row, made.ideal, strict=True) if x == top]
    if leads and candidates > 1:
        parts.append(f"best of all in {listed(leads)}")
    if targets is not None:
        sign = np.where(made.frame.minimise, 1.0, -1.0)
        missed = [
            f"{name} by {quantity(abs(gap), unit)}"
            for (name, unit), gap in zip(named, (row - targets) * sign, strict=True)
            if gap > 0
        ]
        parts.append(f"misses the target of {listed(missed)}" if missed else "meets every target")
    words = "; ".join(parts) + "."
    if made.runner_up is None:
        return words + " There is no other point."
    won, given_up = against(front, made.index, other=made.runner_up, minimise=made.frame.minimise, labels=named)
    score = f"{made.score[made.runner_up]:.4g}"
    return (
        f"{words} Against the runner-up, point {made.runner_up} ({score}), it wins {listed(won)}"
        f" and gives up {listed(given_up)}."
    )


def against(
    front: F64, row: int, *, other: int, minimise: Bool, labels: Sequence[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """What `row` wins and what it gives up against `other`, in words with natural units."""
    won: list[str] = []
    lost: list[str] = []
    for (name, unit), more, down in zip(labels, (front[row] - front[other]).tolist(), minimise.tolist(), strict=True):
        words = f"{name} ({quantity(abs(more), unit)} {'higher' if more > 0 else 'lower'})"
        if more != 0:
            (won if (more < 0) == down else lost).append(words)
    return won, lost


def _by(made: Choice, basis: knee.Basis | None) -> str:
    score = f"{made.score[made.index]:.4g}"
    if basis == "plane":
        return f"knee: it lies {score} beyond the plane through the extremes (normalised)"
    if basis == "balance":
        return f"balance, largest regret {-made.score[made.index]:.4g}: this front has no knee"
    if basis == "trade-off":
        return f"knee: of what the best way out trades, {score} is loss"
    return f"{made.method} (score {score})"


def _value(label: tuple[str, str], value: float) -> str:
    return f"{label[0]} ({quantity(value, label[1])})"


def quantity(value: float, unit: str) -> str:
    """A value for people, with its unit unless it has none."""
    return f"{value:.4g}" if unit in {"1", ""} else f"{value:.4g} {unit}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _checked(front: F64, weight: F64 | None, *, minimise: Bool) -> F64:
    if front.ndim != 2 or front.shape[0] == 0 or front.shape[1] == 0 or front.dtype != np.float64:
        raise InvalidInput(
            "front of a choice", given=(front.shape, str(front.dtype)), expected="(n, m) float64, n, m >= 1"
        )
    columns = front.shape[1]
    weight = np.ones(columns) if weight is None else np.asarray(weight)
    if weight.shape != (columns,) or minimise.shape != (columns,) or minimise.dtype != np.bool_:
        raise InvalidInput(
            "weight and minimise of a choice",
            given=(weight.shape, minimise.shape, str(minimise.dtype)),
            expected=f"({columns},) numbers and ({columns},) bool, one for each objective",
        )
    if not (np.abs(front) <= HUGE).all():
        raise InvalidInput(
            "front of a choice",
            given="NaN, infinity or a number beyond 1e300",
            expected="finite numbers",
            cure="Drop the failed rows first.",
        )
    if not np.isfinite(weight).all() or (weight < 0).any() or weight.sum() <= 0:
        raise InvalidInput("weight of a choice", given=weight.tolist(), expected="numbers >= 0 with a positive sum")
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def _check_method(method: str, *, weights: F64 | None, targets: F64 | None, columns: int) -> None:
    if method not in METHODS:
        raise InvalidInput(
            "method of a choice", given=method, expected=", ".join(METHODS), cure=nearest(method, list(METHODS))
        )
    if method == "knee" and weights is not None:
        raise InvalidInput(
            "weights of a choice by knee",
            given=np.asarray(weights).tolist(),
            expected="none: the knee is where the front bends, whatever the weights",
            cure="Leave the weights out, or choose by topsis.",
        )
    if (targets is not None) != (method == "achievement"):
        raise InvalidInput(
            f"targets of a choice by {method}",
            given="none" if targets is None else targets.tolist(),
            expected="one for each objective" if method == "achievement" else "none",
            cure="Targets belong to method achievement.",
        )
    if targets is not None and (targets.shape != (columns,) or not (np.abs(targets) <= HUGE).all()):
        raise InvalidInput("targets of a choice", given=targets.tolist(), expected=f"{columns} finite numbers")
