"""A front as pictures: two objectives against each other, its hypervolume over the generations, how it grew.

Called by the report of a search, the notebook's pieces and pages. Each picture is a pure function of what was read from a
document (found.py). Never thins what it is given: a document holds 500 points at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlaas_ray.pictures import chart, labels
from rlaas_ray.pictures.found import Found, finite, read

HALF, THIRD = 420.0, 272.0
_NAME = 26


def planes(found: Found, *, most: int = 4) -> list[tuple[int, int]]:
    """Which pairs of objectives to look at: the one of the largest weight against each other, in the order of theirs."""
    if len(found.objectives) <= 2:
        return [(0, 1)] if len(found.objectives) == 2 else []
    first, *others = found.heaviest
    return [(first, other) for other in others[:most]]


def plane(found: Found, *, x: int = 0, y: int = 1, width: float = HALF, height: float = 300.0) -> str:
    """One objective against another, as SVG. With two objectives a line shows what the front attains."""
    drawn = _plane(found, x=x, y=y, width=width, height=height)
    if len(found.objectives) == 2:
        drawn.steps(_border(found), colour="muted")
    points = [(values[x], values[y]) for _, values in found.rows]
    drawn.dots(points, colour="champion", radius=2.4, keys=[key for key, _ in found.rows])
    for name, values in found.anchors.items():
        drawn.star((values[x], values[y]), colour="reference", label=labels.short(name, most=_NAME), ring=True)
    if found.chosen is not None:
        drawn.star((found.chosen[x], found.chosen[y]), colour="challenger", label="chosen")
    return drawn.svg()


def _plane(found: Found, *, x: int, y: int, width: float, height: float) -> chart.Chart:
    across, up = found.objectives[x], found.objectives[y]
    chosen = "" if found.chosen is None else f" Chosen: {found.named(found.chosen)}."
    return chart.Chart(
        x=found.axis(x, label=_axis_name(across.title, width=width - 80)),
        y=found.axis(y, label=_axis_name(up.title, width=height - 50)),
        title=f"{up.name} against {across.name}: {len(found.rows)} points of the front.{chosen}",
        width=width,
        height=height,
    )


def _axis_name(title: str, *, width: float) -> str:
    return labels.short(title, most=int(width / 6.8))


def _border(found: Found) -> list[tuple[float, float]]:
    """What the points attain together: from each point flat to the next, in the direction in which the first gets worse."""
    less = found.objectives[0].less
    return sorted(((values[0], values[1]) for _, values in found.rows), reverse=not less)


def trace(found: Found, *, width: float = HALF, height: float = 240.0) -> str:
    """The hypervolume of all that was found up to each generation, as SVG."""
    each = _each(found)
    drawn = chart.Chart(
        x=chart.Axis(
            label=f"generation{'' if each is None else f' ({each:,} evaluations each)'}",
            low=found.trace[0][0] if found.trace else 1.0,
            high=max([2.0, *(at for at, _ in found.trace)]),
        ),
        y=chart.spanning(
            "hypervolume (more is better) →" if height > 220 else "hypervolume →",
            [value for _, value in found.trace],
            zero=True,
        ),
        title=_told(found.trace),
        width=width,
        height=height,
        right=58,
    )
    drawn.steps(chart.thinned(found.trace), colour="challenger", fill=True)
    for at, value in found.trace[-1:]:
        drawn.line([(at, value)], colour="challenger", label=chart.shown(round(value, 4)))
    return drawn.svg()


def _told(trace: Sequence[tuple[float, float]]) -> str:
    if not trace:
        return "Hypervolume by generation: nothing was told."
    near = next(at for at, value in trace if value >= 0.99 * max(v for _, v in trace))
    at, value = trace[-1]
    return f"Hypervolume by generation: {value:.4f} after {at:.0f}; 99 % of it in generation {near:.0f}."


def _each(found: Found) -> int | None:
    """Evaluations of a generation, where they are all alike."""
    generations, evaluations = found.facts.get("generations"), found.facts.get("evaluations")
    if not isinstance(generations, int) or not isinstance(evaluations, int) or generations < 1:
        return None
    return round((evaluations - len(found.anchors)) / generations) or None


def growth(found: Found, *, events: Sequence[Mapping[str, Any]], most: int = 6) -> list[tuple[str, str]]:
    """How the front grew: (caption, SVG) of at most that many moments, all on the same axes, the end behind each in grey."""
    x, y = next(iter(planes(found)), (0, 0))
    names = [{"name": o.name, "unit": o.unit, "direction": o.direction} for o in found.objectives]
    moments = [(event, read(event, objectives=names)) for event in _moments(events, most=most)]
    moments = [(event, one) for event, one in moments if len(one.objectives) == len(found.objectives) >= 2]
    everything = [*found.rows, *(row for _, one in moments for row in one.rows)]
    out = []
    for event, one in moments:
        drawn = _plane(found, x=x, y=y, width=THIRD, height=230.0)
        drawn.x = chart.spanning(found.objectives[x].arrow, [v[x] for _, v in everything], log=drawn.x.log)
        drawn.y = chart.spanning(found.objectives[y].arrow, [v[y] for _, v in everything], log=drawn.y.log)
        drawn.title = f"The front at generation {event.get('generation')}: {len(one.rows)} points."
        drawn.dots([(v[x], v[y]) for _, v in found.rows], colour="muted", radius=1.4)
        drawn.dots([(v[x], v[y]) for _, v in one.rows], colour="challenger", radius=2.0)
        out.append((_caption(event), drawn.svg()))
    return out


def _moments(events: Sequence[Mapping[str, Any]], *, most: int) -> list[Mapping[str, Any]]:
    """The first, the last, and those between where the hypervolume passed equal steps."""
    told = [event for event in events if event.get("front")]
    if len(told) <= most:
        return told
    volumes = [finite(event.get("hypervolume")) or 0.0 for event in told]  # none is measured at the very start
    low, high = volumes[0], max(volumes)
    levels = [low + (high - low) * i / (most - 1) for i in range(most - 1)]
    places = [next(i for i, volume in enumerate(volumes) if volume >= level) for level in levels]
    return [told[i] for i in sorted({*places, len(told) - 1})]


def _caption(event: Mapping[str, Any]) -> str:
    volume = finite(event.get("hypervolume"))
    return f"generation {event.get('generation', '?')}{'' if volume is None else f', hypervolume {volume:.4g}'}"
