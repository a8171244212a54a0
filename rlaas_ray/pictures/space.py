"""A front of three objectives in space: a parallel projection of a box, nearer points larger and stronger.

Called by the report of a search, whose script turns the picture (`data-p` holds places in the unit box), the notebook's pieces
and pages. Never hides a point behind a wall: only the three far walls are drawn, from every side that it can be turned to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from rlaas_ray.pictures import chart, labels
from rlaas_ray.pictures.found import Found, Objective, Point

WIDTH, HEIGHT = 640.0, 470.0
SCALE, CENTRE = 270.0, (320.0, 222.0)
TURN, TILT = 38.0, 24.0  # degrees
Place = tuple[float, float, float]


def cube(found: Found, *, columns: Sequence[int] = (0, 1, 2), turn: float = TURN, tilt: float = TILT) -> str:
    """Three objectives (the first two on the floor, the third upwards) as SVG."""
    axes = [found.axis(i) for i in columns]

    def place(values: Point) -> Place:
        a, b, c = (axis.at(values[i]) for axis, i in zip(axes, columns, strict=True))
        return (a, b, c)

    eye = _Eye(turn=turn, tilt=tilt)
    parts = [
        _walls(eye),
        *(
            _axis(found, axis, column=i, which=k, eye=eye)
            for k, (axis, i) in enumerate(zip(axes, columns, strict=True))
        ),
    ]
    points = sorted(((key, place(values)) for key, values in found.rows), key=lambda row: -eye.depth(row[1]))
    parts.append(
        f'<g class="cloud" style="fill:var(--champion)">{"".join(_dot(p, key=key, eye=eye) for key, p in points)}</g>'
    )
    if found.chosen is not None:
        p = place(found.chosen)
        parts.append(_segment(p, (p[0], p[1], 0.0), eye=eye, kind="level", colour="challenger"))
    parts.append(_marks(found, place=place, eye=eye))
    heads = ", ".join(found.objectives[i].name for i in columns)
    opening = chart.opening(WIDTH, HEIGHT, title=f"{len(found.rows)} points of the front in space: {heads}.")
    told = (
        f' data-scale="{SCALE:g}" data-centre="{CENTRE[0]:g},{CENTRE[1]:g}" data-turn="{turn:g}" data-tilt="{tilt:g}"'
    )
    return f"{opening[:-1]}{told}>{''.join(parts)}</svg>"


class _Eye:
    """Where the picture is seen from."""

    def __init__(self, *, turn: float, tilt: float) -> None:
        a, e = math.radians(turn), math.radians(tilt)
        self._cos, self._sin, self._high, self._wide = math.cos(a), math.sin(a), math.sin(e), math.cos(e)

    def seen(self, p: Place) -> tuple[float, float]:
        """Where a place of the unit box is in the picture."""
        x, y, z = (v - 0.5 for v in p)
        across = x * self._cos - y * self._sin
        away = x * self._sin + y * self._cos
        return CENTRE[0] + SCALE * across, CENTRE[1] - SCALE * (z * self._wide + away * self._high)

    def depth(self, p: Place) -> float:
        """How far away, about -0.9 (near) to 0.9."""
        x, y, z = (v - 0.5 for v in p)
        return (x * self._sin + y * self._cos) * self._wide - z * self._high


def _told(p: Place) -> str:
    return ",".join(f"{v:.4f}" for v in p)


def _dot(p: Place, *, key: int, eye: _Eye) -> str:
    x, y = eye.seen(p)
    near = 0.5 - eye.depth(p) / 1.8
    return (
        f'<circle data-i="{key}" data-p="{_told(p)}" cx="{x:.1f}" cy="{y:.1f}" r="{1.8 + 1.8 * near:.2f}" '
        f'opacity="{0.35 + 0.55 * near:.2f}"/>'
    )


def _segment(a: Place, b: Place, *, eye: _Eye, kind: str = "grid", colour: str = "") -> str:
    (x0, y0), (x1, y1) = eye.seen(a), eye.seen(b)
    style = f' style="stroke:var(--{colour})"' if colour else ""
    return f'<path class="{kind}"{style} data-a="{_told(a)}" data-b="{_told(b)}" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>'


def _walls(eye: _Eye) -> str:
    """Floor, back and side with a grid of quarters; the far corner is (1, 1, 0), or (0, 1, 0) at the left."""
    lines: list[tuple[Place, Place]] = []
    for k in range(5):
        t = k / 4
        lines += [((t, 0, 0), (t, 1, 0)), ((0, t, 0), (1, t, 0))]  # floor
        lines += [((t, 1, 0), (t, 1, 1)), ((0, 1, t), (1, 1, t))]  # behind
        lines += [((1, t, 0), (1, t, 1)), ((1, 0, t), (1, 1, t))]  # at the right
    return "".join(_segment(a, b, eye=eye) for a, b in lines)


# From where to where an axis runs in the box, and which way its ticks and its name stand off.
_EDGES: tuple[tuple[Place, Place, tuple[float, float], str], ...] = (
    ((0, 0, 0), (1, 0, 0), (6.0, 14.0), "start"),
    ((0, 0, 0), (0, 1, 0), (-8.0, 12.0), "end"),
    ((0, 1, 0), (0, 1, 1), (-8.0, 4.0), "end"),
)


def _axis(found: Found, axis: chart.Axis, *, column: int, which: int, eye: _Eye) -> str:
    start, end, (dx, dy), anchor = _EDGES[which]

    def along(t: float) -> Place:
        x, y, z = (a + (b - a) * t for a, b in zip(start, end, strict=True))
        return (x, y, z)

    parts = [_segment(start, end, eye=eye, kind="axis")]
    parts += [
        _text(along(axis.at(tick)), text=chart.shown(tick), kind="tick", anchor=anchor, off=(dx, dy), eye=eye)
        for tick in axis.ticks()
    ]
    parts.append(_head(found.objectives[column], which=which, eye=eye))
    return "".join(parts)


def _head(objective: Objective, *, which: int, eye: _Eye) -> str:
    """The name of an axis: of the floor in the corner below it, where any length has room; upwards above its end."""
    title = f"{labels.short(objective.label, most=22)} ({'less' if objective.less else 'more'} is better)"
    if which == 2:
        return _text((0, 1, 1), text=title, kind="head", anchor="start", off=(-30, -14), eye=eye)
    x, anchor = (WIDTH - 8, "end") if which == 0 else (8.0, "start")
    return f'<text class="head" text-anchor="{anchor}" x="{x:g}" y="{HEIGHT - 12:g}">{escape(title)}</text>'


def _text(p: Place, *, text: str, kind: str, anchor: str, off: tuple[float, float], eye: _Eye) -> str:
    x, y = eye.seen(p)
    return (
        f'<text class="{kind}" text-anchor="{anchor}" data-p="{_told(p)}" data-off="{off[0]:g},{off[1]:g}" '
        f'x="{x + off[0]:.1f}" y="{y + off[1]:.1f}">{escape(text)}</text>'
    )


def _marks(found: Found, *, place: Callable[[Point], Place], eye: _Eye) -> str:
    """Anchors as rings, the chosen point as a diamond, each with its name; a group each, which moves as one."""
    marks = [(labels.short(name, most=22), place(values), True) for name, values in found.anchors.items()]
    if found.chosen is not None:
        marks.append(("chosen", place(found.chosen), False))
    at = [eye.seen(p) for _, p, _ in marks]
    wanted = [
        labels.Label(x=x, y=y, text=name, colour="reference" if ring else "challenger")
        for (name, _, ring), (x, y) in zip(marks, at, strict=True)
    ]
    texts = labels.placed(wanted, box=(4.0, 4.0, WIDTH - 4, HEIGHT - 4))
    return "".join(
        f'<g data-at="{_told(p)}" data-x="{x:.1f}" data-y="{y:.1f}">'
        f"{chart.ring_at(x, y, colour='reference') if ring else chart.diamond_at(x, y, colour='challenger')}{text}</g>"
        for (_, p, ring), (x, y), text in zip(marks, at, texts, strict=True)
    )
