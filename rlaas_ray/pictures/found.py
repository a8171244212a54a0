"""What a search has found, read from its result or from a `front` event: objectives, points, the chosen one, the way there.

Called by every picture of a front. Documents come from elsewhere: rows that are not finite or too short are left out, fields
that are missing are empty. Never computes a front.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaas_ray.pictures import chart, page

Point = tuple[float, ...]
_LARGEST = 1e150  # squares and differences of what is drawn stay finite
_SKEW, _LEAST_RATIO, _LARGEST_RATIO = 0.12, 20.0, 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A column of a front: its name, its unit ("1": none), "min" or "max"."""

    name: str
    unit: str = "1"
    direction: str = "min"

    @property
    def less(self) -> bool:
        """Whether less is better."""
        return self.direction == "min"

    @property
    def label(self) -> str:
        """Name and unit."""
        return self.name if self.unit in {"1", ""} else f"{self.name}, {self.unit}"

    @property
    def title(self) -> str:
        """Name, unit and which way is better; on a turned axis the arrow points down or up."""
        return f"← {self.label} (less is better)" if self.less else f"{self.label} (more is better) →"

    @property
    def arrow(self) -> str:
        """The same where there is no room for words."""
        return f"← {self.label}" if self.less else f"{self.label} →"

    def value(self, value: float) -> str:
        """A value with its unit."""
        return page.number(value) if self.unit in {"1", ""} else f"{page.number(value)} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The document, read. `rows` are (place in the document's front, values in natural units)."""

    objectives: tuple[Objective, ...]
    rows: tuple[tuple[int, Point], ...]
    chosen: Point | None
    chosen_index: int | None
    reason: str
    anchors: Mapping[str, Point]
    trace: tuple[tuple[float, float], ...]  # generation, hypervolume
    hypervolume: float | None
    weights: Point
    facts: Mapping[str, Any]

    @property
    def heaviest(self) -> list[int]:
        """Objectives by weight, the heaviest first; as they come where weights are equal."""
        return sorted(range(len(self.objectives)), key=lambda i: -self.weights[i])

    @property
    def bests(self) -> Point:
        """The ideal point: the best of each objective among the points."""
        columns = list(zip(*(values for _, values in self.rows), strict=True))
        return tuple(min(c) if o.less else max(c) for o, c in zip(self.objectives, columns, strict=False))

    def everything(self, column: int) -> list[float]:
        """All values of one objective that a picture shows."""
        more = [*self.anchors.values(), *([self.chosen] if self.chosen is not None else [])]
        return [values[column] for _, values in self.rows] + [values[column] for values in more]

    def axis(self, column: int, *, label: str = "") -> chart.Axis:
        """The axis of one objective; by decades where most of the points would else lie on one end."""
        values = sorted(self.everything(column))
        skewed = bool(values) and values[0] > 0 and _LEAST_RATIO < values[-1] / values[0] < _LARGEST_RATIO
        if skewed:
            middle = values[len(values) // 2]
            skewed = middle - values[0] < _SKEW * (values[-1] - values[0])
        return chart.spanning(label or self.objectives[column].title, values, log=skewed)

    def point(self, values: Any) -> Point | None:
        """The values of a mapping by name; None where one is missing."""
        return _by_name(values, self.objectives)

    def named(self, values: Point) -> str:
        """A point in words."""
        return ", ".join(f"{o.name} {o.value(v)}" for o, v in zip(self.objectives, values, strict=True))


def document_of(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The front in a run's result: of a search the result itself, of a training or an evaluation that of its policy."""
    inner = _mapping(result.get("evaluation")).get("front")
    for one in (result, result.get("front"), inner):
        if isinstance(one, Mapping) and _list(one.get("front")):
            return one
    return None


def read(document: Mapping[str, Any], *, objectives: Sequence[Mapping[str, Any]] | None = None) -> Found:
    """A result or a `front` event; `objectives` where the event itself does not name them."""
    raw = _list(document.get("front"))
    named = _list(document.get("objectives")) or list(objectives or [])
    width = len(named) or max((len(row) for row in raw if isinstance(row, list | tuple)), default=0)
    columns = tuple(
        Objective(
            name=str(one.get("name", f"f{i + 1}")),
            unit=str(one.get("unit") or "1"),
            direction="max" if one.get("direction") == "max" else "min",
        )
        for i, one in enumerate(map(_mapping, named or [{}] * width))
    )
    rows = tuple((i, point) for i, row in enumerate(raw) if (point := _point(row, width=width)) is not None)
    picked = _mapping(document.get("chosen"))
    chosen = _by_name(picked.get("objectives"), columns)
    index = picked.get("index")
    anchors = {
        str(k): p for k, v in _mapping(document.get("anchors")).items() if (p := _by_name(v, columns)) is not None
    }
    weights = _mapping(document.get("weights"))
    told = document.get("hypervolume_stride")
    stride = told if isinstance(told, int) and told > 0 else 1
    return Found(
        objectives=columns,
        rows=rows,
        chosen=chosen,
        chosen_index=index if isinstance(index, int) else None,
        reason=_reason(picked, weights=weights, columns=columns) if chosen is not None else "",
        anchors=anchors,
        trace=tuple(
            (1.0 + stride * i, v)
            for i, v in enumerate(map(finite, _list(document.get("hypervolume_trace"))))
            if v is not None and v >= 0  # a search of many objectives measures every tenth generation
        ),
        hypervolume=finite(document.get("hypervolume")),
        weights=tuple(finite(weights.get(o.name)) or 0.0 for o in columns),
        facts=document,
    )


def _reason(picked: Mapping[str, Any], *, weights: Mapping[str, Any], columns: Iterable[Objective]) -> str:
    told = picked.get("reason")
    if told:
        return str(told)
    words = ""
    if weights:
        words = f" at weights {', '.join(f'{o.name} {finite(weights.get(o.name)) or 0.0:g}' for o in columns)}"
    score = finite(picked.get("score"))
    return f"nearest the ideal and farthest from the worst by TOPSIS{words}{'' if score is None else f'; score {score:.3f}'}"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _by_name(values: Any, columns: Sequence[Objective]) -> Point | None:
    # By name: a document that went through a database has its keys in another order.
    if not isinstance(values, Mapping) or not columns:
        return None
    return _point([values.get(o.name) for o in columns], width=len(columns))


def _point(row: Any, *, width: int) -> Point | None:
    if not isinstance(row, list | tuple) or len(row) != width or width == 0:
        return None
    values = [finite(v) for v in row]
    return None if any(v is None for v in values) else tuple(v for v in values if v is not None)


def finite(value: Any) -> float | None:
    """A number that can be drawn, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if abs(value) > _LARGEST or not math.isfinite(value):
        return None
    return float(value) if abs(value) * _LARGEST >= 1 else 0.0
