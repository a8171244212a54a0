"""Names of points, put where they cover neither one another nor leave the picture. Called by the charts; knows no axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 7.6, 12.0  # of a character of 11 px, generously
_AWAY = 10.0
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What stands at a point."""

    x: float
    y: float
    text: str
    colour: str


def placed(labels: Sequence[Label], *, box: Box) -> list[str]:
    """SVG texts inside `box` (left, top, right, bottom): each at the first of sixteen places that is free, else the freest."""
    marks = [(one.x - 5, one.y - 5, one.x + 5, one.y + 5) for one in labels]
    taken: list[Box] = []
    out = []
    for one in labels:
        places = _places(one, width=len(one.text) * _WIDTH)
        costs = [
            3 * sum(_overlap(p, q) for q in taken) + sum(_overlap(p, q) for q in marks) + 20 * _outside(p, box)
            for p, _, _ in places
        ]
        best = places[costs.index(min(costs))]
        taken.append(best[0])
        _, x, anchor = best
        out.append(
            f'<text class="mark" style="fill:var(--{one.colour})" text-anchor="{anchor}" x="{x:.1f}" '
            f'y="{best[0][3] - 3:.1f}">{escape(one.text)}</text>'
        )
    return out


def short(text: str, *, most: int) -> str:
    """At most that many characters, the last a sign that there are more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _places(one: Label, *, width: float) -> list[tuple[Box, float, str]]:
    """Sixteen boxes round the point, each with the x and the anchor of its text."""
    found = []
    for dy in (-_AWAY, _AWAY, 0.0, -2 * _AWAY, 2 * _AWAY, -3 * _AWAY, 3 * _AWAY):
        middle = one.y + dy
        top, bottom = middle - _HEIGHT / 2, middle + _HEIGHT / 2
        right, left = one.x + (_AWAY if dy == 0 else 7), one.x - (_AWAY if dy == 0 else 7)
        found.append(((right, top, right + width, bottom), right, "start"))
        found.append(((left - width, top, left, bottom), left, "end"))
    for dy in (-1.6 * _AWAY, 1.6 * _AWAY):
        middle = one.y + dy
        box = (one.x - width / 2, middle - _HEIGHT / 2, one.x + width / 2, middle + _HEIGHT / 2)
        found.append((box, one.x, "middle"))
    return found


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(a: Box, box: Box) -> float:
    return max(0.0, box[0] - a[0]) + max(0.0, a[2] - box[2]) + max(0.0, box[1] - a[1]) + max(0.0, a[3] - box[3])
