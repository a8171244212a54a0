"""A front in parallel coordinates: an axis for each objective in its natural unit, better is up on all of them.

Called by the report of a search, the notebook's pieces and pages. A line is a point; the chosen one has diamonds, the anchors
are dashed and named. Any number of objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rlaas_ray.pictures import chart, labels
from rlaas_ray.pictures.found import Found, Point

_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 136.0, 62.0, 40.0
_CHARACTER = 8.2
_CLOUD = 28.0  # so many lines may lie over one another before they are drawn fainter


def coordinates(found: Found, *, width: float = chart.WIDTH, height: float = 360.0) -> str:
    """The picture as SVG."""
    count = len(found.objectives)
    gap = (width - _LEFT - _RIGHT) / max(1, count - 1)
    axes = [found.axis(i) for i in range(count)]
    bottom = height - _BOTTOM

    def at(values: Point) -> list[tuple[float, float]]:
        places = [
            a.at(v) if not o.less else 1 - a.at(v) for a, o, v in zip(axes, found.objectives, values, strict=True)
        ]
        return [(_LEFT + i * gap, bottom - place * (bottom - _TOP)) for i, place in enumerate(places)]

    faint = min(0.6, max(0.1, _CLOUD / max(1, len(found.rows))))
    ways = "".join(f'<path class="way" data-i="{key}" d="{_path(at(values))}"/>' for key, values in found.rows)
    parts = [f'<g style="stroke-opacity:{faint:.2f}">{ways}</g>']
    named = []
    for name, values in found.anchors.items():
        line = at(values)
        parts.append(f'<path class="line dashed" style="stroke:var(--reference)" d="{_path(line)}"/>')
        named.append((line[-1][1], labels.short(name, most=17), "reference"))
    if found.chosen is not None:
        line = at(found.chosen)
        parts.append(f'<path class="line" style="stroke:var(--challenger);stroke-width:3" d="{_path(line)}"/>')
        named.append((line[-1][1], "chosen", "challenger"))
    parts += [_axis(found, axes[i], column=i, x=_LEFT + i * gap, gap=gap, bottom=bottom) for i in range(count)]
    if found.chosen is not None:
        parts += [chart.diamond_at(a, b, colour="challenger", size=6) for a, b in at(found.chosen)]
    parts.append(_ends(named, x=_LEFT + (count - 1) * gap + 12, bottom=bottom))
    return f"{chart.opening(width, height, title=_title(found))}{''.join(parts)}{_legend(found, height=height)}</svg>"


def _path(line: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line)


def _axis(found: Found, axis: chart.Axis, *, column: int, x: float, gap: float, bottom: float) -> str:
    """The line, its head (name, unit, direction) and its ticks, least on top where less is better."""
    objective = found.objectives[column]
    room = int(max(gap - 8, 60) / _CHARACTER)
    unit = "" if objective.unit in {"1", ""} else objective.unit
    direction = "less is better" if objective.less else "more is better"
    second = ", ".join(word for word in (unit, direction) if word)
    if len(second) > room and unit:
        second = f"{unit}, {objective.direction}"
    anchor = "start" if column == 0 else "middle"
    left = x - 40 if column == 0 else x
    parts = [
        f"<g><title>{escape(f'{objective.label}: {direction}')}</title>"
        f'<text class="head" text-anchor="{anchor}" x="{left:.1f}" y="20">'
        f"{escape(labels.short(objective.name, most=room))}</text>"
        f'<text class="tick" text-anchor="{anchor}" x="{left:.1f}" y="36">{escape(labels.short(second, most=room))}</text></g>'
        f'<path class="axis" d="M{x:.1f} {_TOP}V{bottom:.1f}"/>'
    ]
    for tick in axis.ticks():
        place = axis.at(tick) if not objective.less else 1 - axis.at(tick)
        y = bottom - place * (bottom - _TOP)
        parts.append(
            f'<path class="axis" d="M{x - 4:.1f} {y:.1f}h4"/><text class="tick halo" text-anchor="end" x="{x - 7:.1f}" '
            f'y="{y + 4:.1f}">{chart.shown(tick)}</text>'
        )
    return "".join(parts)


def _ends(named: Sequence[tuple[float, str, str]], *, x: float, bottom: float) -> str:
    """Names at the right, pushed apart: down from the top, then up again from the bottom."""
    rows = sorted(named)
    heights = [y for y, _, _ in rows]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + 13)
    if heights and heights[-1] > bottom + 6:
        heights[-1] = bottom + 6
        for i in range(len(heights) - 2, -1, -1):
            heights[i] = min(heights[i], heights[i + 1] - 13)
    return "".join(
        f'<text class="end" style="fill:var(--{colour})" x="{x:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
        for y, (_, text, colour) in zip(heights, rows, strict=True)
    )


def _legend(found: Found, *, height: float) -> str:
    words = "↑ up is better on every axis"
    return f'<text class="name" x="{_LEFT - 40:.1f}" y="{height - 8:.1f}">{words}; {len(found.rows):,} points</text>'


def _title(found: Found) -> str:
    names = ", ".join(o.name for o in found.objectives)
    chosen = "" if found.chosen is None else f" Chosen: {found.named(found.chosen)}."
    return f"{len(found.rows)} points of the front over {len(found.objectives)} objectives ({names}); up is better.{chosen}"
