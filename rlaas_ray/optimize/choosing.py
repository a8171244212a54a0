"""A choice on a result document: names and units in, the document of the choice out, between parties or by one method.

Called by control/choices.py for `POST /optimization/{id}/choose`, and by users with a result in hand. Pure: the generator of
the sensitivity is handed in. Never looks for the variables of a point: they are not in the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.errors import Conflict, InvalidInput, nearest
from rlaas_ray.optimize import choice, conflict, measures, sensitivity
from rlaas_ray.optimize.choice import Session
from rlaas_ray.optimize.measures import Frame
from rlaas_ray.specs.arrays import F64, Bool
from rlaas_ray.specs.choose import ChooseSpec, Party

_CORNERS = ("ideal", "anti_ideal", "norm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The points of a result document: values (n, m) in natural units, with what its columns are."""

    values: F64
    names: list[str]
    units: list[str]
    minimise: Bool
    weight: F64 | None  # the run's own, where the document has them

    @property
    def labels(self) -> list[tuple[str, str]]:
        """(name, unit) of each objective."""
        return list(zip(self.names, self.units, strict=True))

    def row(self, index: int) -> dict[str, float]:
        """A point by name."""
        return dict(zip(self.names, self.values[index].tolist(), strict=True))

    def named(self, given: Mapping[str, float], *, absent: F64, pointer: str) -> F64:
        """Numbers by objective as an array (m,). Raises InvalidInput for a name that no objective has."""
        unknown = sorted(set(given) - set(self.names))
        if unknown:
            raise InvalidInput(
                "an objective that this front has not",
                given=unknown[0],
                expected=", ".join(self.names),
                cure=nearest(unknown[0], self.names),
                pointer=f"{pointer}/{unknown[0]}",
            )
        return np.array([given.get(name, low) for name, low in zip(self.names, absent.tolist(), strict=True)])


def table(found: Mapping[str, Any]) -> Table:
    """The points of a result document, or of a front that still grows. Raises Conflict where there is none to choose from."""
    objectives = found.get("objectives")
    if not objectives or not found.get("front"):
        raise Conflict(
            "there is no front to choose from",
            given=f"{len(found.get('front') or [])} points",
            expected="a search that has found a point",
            cure="Wait for its first front, or for its end.",
        )
    names = [str(one["name"]) for one in objectives]
    weights = found.get("weights")
    return Table(
        values=np.array(found["front"], dtype=np.float64),
        names=names,
        units=[str(one["unit"]) for one in objectives],
        minimise=np.array([one["direction"] == "min" for one in objectives]),
        weight=np.array([float(weights.get(name, 0.0)) for name in names]) if weights else None,
    )


def answer(
    found: Mapping[str, Any],
    spec: ChooseSpec,
    *,
    frame: Mapping[str, Mapping[str, float]] | None = None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The document of a choice: chosen, runner-up, reason, scores, the frame, and what was asked for.

    `chosen` is None only between parties none of whose demands can all be met. `frame`: that of an earlier choice.
    """
    points = table(found)
    session = Session(
        labels=points.labels, frame=_frame(frame, points=points) if frame else None, normalisation=spec.normalisation
    )
    if spec.parties is not None:
        return _between(points, spec, session=session)
    return _by_method(points, spec, session=session, rng=rng)


def _by_method(points: Table, spec: ChooseSpec, *, session: Session, rng: np.random.Generator) -> dict[str, Any]:
    method = spec.method or ("achievement" if spec.targets else "topsis")
    zeros = np.zeros(len(points.names))
    weights = points.named(spec.weights, absent=zeros, pointer="/weights") if spec.weights else None
    if weights is None and method not in {"knee", "achievement"}:
        weights = points.weight
    targets = None
    if spec.targets:
        # An objective without a target asks for nothing: its worst will do.
        worst = (session.frame or measures.frame(points.values, minimise=points.minimise)).anti_ideal
        targets = points.named(spec.targets, absent=worst, pointer="/targets")
    made = choice.choose(
        points.values, method=method, minimise=points.minimise, weights=weights, targets=targets, session=session
    )
    document = {
        "method": method,
        "weights": None if method == "knee" else _named(made.weight, points),
        "targets": spec.targets,
        "front_size": len(points.values),
        "dominated": np.flatnonzero(made.dominated).tolist(),
        "chosen": _point(points, made.index, score=made.score),
        "runner_up": None if made.runner_up is None else _point(points, made.runner_up, score=made.score),
        "reason": made.reason,
        "scores": [None if np.isnan(value) else value for value in made.score.tolist()],
        "frame": {name: _named(getattr(made.frame, name), points) for name in _CORNERS},
    }
    if spec.sensitivity:
        document["sensitivity"] = _sensitivity(points, made, rng=rng)
    return document


def _sensitivity(points: Table, made: choice.Choice, *, rng: np.random.Generator) -> dict[str, Any]:
    found = sensitivity.sensitivity(points.values, made, rng=rng, labels=points.labels)
    rivals = [[None if row == sensitivity.NOBODY else row for row in pair] for pair in found.rival.tolist()]
    winners = np.argsort(-found.share, kind="stable")[:10]
    flip = None
    if found.flip is not None:
        objective, end, rival = found.flip
        flip = {"objective": points.names[objective], "weight": end, "index": rival}
    return {
        "intervals": {
            name: {"weight": weight, "low": low, "high": high, "below": below, "above": above}
            for name, weight, (low, high), (below, above) in zip(
                points.names, made.weight.tolist(), found.interval.tolist(), rivals, strict=True
            )
        },
        "shares": [
            {"index": int(row), "share": float(found.share[row]), "error": float(found.share_error[row])}
            for row in winners
            if found.share[row] > 0
        ],
        "share": float(found.share[made.index]),
        "flip": flip,
        "reason": found.reason,
    }


def _between(points: Table, spec: ChooseSpec, *, session: Session) -> dict[str, Any]:
    parties = spec.parties or ()
    kept = np.flatnonzero(~choice.dominated_rows(points.values, minimise=points.minimise))
    frame = session.frame or measures.frame(points.values[kept], minimise=points.minimise)
    value = np.stack([_value(party, points, kept=kept, frame=frame, number=i) for i, party in enumerate(parties)])
    utility = conflict.scaled(value)
    found = conflict.resolve(
        utility,
        rule=spec.rule or "nash",
        weights=np.array([party.share for party in parties]),
        floors=np.array([-np.inf if party.floor is None else party.floor for party in parties]),
        parties=[party.name for party in parties],
        demands=_limits(parties, points, kept=kept, frame=frame),
        options=kept,
    )
    own = kept[utility.argmax(axis=1)]
    return {
        "rule": found.rule,
        "used": found.used,
        "front_size": len(points.values),
        "chosen": None if found.index is None else _point(points, int(kept[found.index]), score=None),
        "reason": found.reason,
        "parties": [
            {
                "name": party.name,
                "utility": None if found.index is None else float(utility[i, found.index]),
                "regret": None if found.index is None else float(found.regret[i]),
                "would_take": int(own[i]),
            }
            for i, party in enumerate(parties)
        ],
        "by_rule": {name: int(kept[row]) for name, row in found.by_rule.items()},
        "alternatives": kept[found.alternatives].tolist(),
        "relax": {name: {"given": given, "needed": needed} for name, (given, needed) in found.relax.items()},
        "relaxed_index": None if found.relaxed_index is None else int(kept[found.relaxed_index]),
        "frame": {name: _named(getattr(frame, name), points) for name in _CORNERS},
    }


def _value(party: Party, points: Table, *, kept: Any, frame: Frame, number: int) -> F64:
    """What each kept point is worth to a party (k,): its weighted merit, or how near it comes to its targets."""
    where, columns = f"/parties/{number}", len(points.names)
    weight = np.ones(columns)
    if party.weights is not None:
        weight = points.named(party.weights, absent=np.zeros(columns), pointer=f"{where}/weights")
    if not np.isfinite(weight).all() or (weight < 0).any() or weight.sum() <= 0:
        raise InvalidInput(
            f"weights of {party.name}",
            given=party.weights,
            expected="numbers >= 0 with a positive sum",
            pointer=f"{where}/weights",
        )
    weight = weight / weight.sum()
    if party.targets is None:
        return np.asarray(-frame.regret(points.values[kept]) @ weight)
    targets = points.named(party.targets, absent=frame.anti_ideal, pointer=f"{where}/targets")
    return np.asarray(measures.achievement(points.values[kept], within=frame, targets=targets).score(weight[None])[0])


def _limits(parties: Sequence[Party], points: Table, *, kept: Any, frame: Frame) -> list[conflict.Demand]:
    """The parties' limits on objectives, as demands on a scale from the anti-ideal (0) to the ideal (1)."""
    merit = 1.0 - frame.regret(points.values[kept])
    demands = []
    for i, party in enumerate(parties):
        limits = points.named(party.limits or {}, absent=frame.anti_ideal, pointer=f"/parties/{i}/limits")
        floors = 1.0 - frame.regret(limits[None])[0]
        demands += [
            conflict.Demand(
                name=f"limit of {party.name} on {name}",
                level=merit[:, j],
                floor=float(floors[j]),
                shown=points.values[kept, j],
                limit=float(limits[j]),
                unit=points.units[j],
            )
            for j, name in enumerate(points.names)
            if name in (party.limits or {})
        ]
    return demands


def _point(points: Table, index: int, *, score: F64 | None) -> dict[str, Any]:
    found: dict[str, Any] = {"index": index, "objectives": points.row(index)}
    return found if score is None else {**found, "score": float(score[index])}


def _named(values: F64, points: Table) -> dict[str, float]:
    return dict(zip(points.names, values.tolist(), strict=True))


def _frame(given: Mapping[str, Mapping[str, float]], *, points: Table) -> Frame:
    """The frame of an earlier choice, from its document."""
    corners = {name: np.array([float(given[name][one]) for one in points.names]) for name in _CORNERS}
    return Frame(**corners, minimise=points.minimise)
