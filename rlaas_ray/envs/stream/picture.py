"""A job as a picture: its operators with load, queue and instances; beside it instances against the least that would carry.

Called by `render()`. Shows the first row of a batch; changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import FancyBboxPatch, Rectangle

from rlaas_ray.envs import picture
from rlaas_ray.envs.stream import model
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.specs.arrays import Array

_WIDE, _HIGH = 0.8, 0.5


def draw(flow: Dataflow, state: Mapping[str, Any]) -> Array:
    """Boxes: colour is the busy share, the bar below is the queue over its buffer, a red rim is back-pressure."""
    made, (left, right) = picture.figure(columns=2, width_px=960, width_ratios=(1.7, 1.0))
    place = _places(flow)
    for edge in flow.edges:
        (x0, y0), (x1, y1) = place[edge.source], place[edge.target]
        left.annotate(
            "",
            xy=(x1 - _WIDE / 2, y1),
            xytext=(x0 + _WIDE / 2, y0),
            arrowprops={"arrowstyle": "->", "color": picture.GREY, "linewidth": 1.5},
        )
        if edge.selectivity != 1.0:
            middle = ((x0 + x1) / 2, (y0 + y1) / 2 + 0.06)
            left.text(*middle, f"x {edge.selectivity:g}", ha="center", fontsize=8, color=picture.INK)
    for number in range(len(flow.operators)):
        _box(left, flow=flow, state=state, number=number, at=place[number])
    xs, ys = zip(*place, strict=True)
    left.set(xlim=(min(xs) - 0.6, max(xs) + 0.6), ylim=(min(ys) - 0.7, max(ys) + 0.7))
    left.set_axis_off()
    nominal = float(sum(flow.nominal))
    down = f", restarting {state['down_s'][0]:.0f} s" if state["down_s"][0] > 0 else ""
    left.set_title(
        f"{flow.name}, step {int(state['t'][0])}: offered {state['offered'][0] / nominal:.0%} of nominal, "
        f"lag {state['lag_s'][0]:.1f} s, latency {state['latency_s'][0]:.2f} s{down}",
        fontsize=9,
    )
    _bars(right, flow=flow, state=state, share=float(state["offered"][0]) / nominal)
    return picture.pixels(made)


def draw_tiny(*, rate: float, capacity: Mapping[str, float], lag: float, most: float, title: str) -> Array:
    """Rate, what each operator can take, and the lag, in source units; `most` is the highest lag."""
    made, axes = picture.figure(width_px=500, height_px=400)
    colours = [picture.BLUE, *(picture.GREEN for _ in capacity), picture.RED]
    axes.bar(["rate", *capacity, "lag"], [rate, *capacity.values(), lag], color=colours)
    axes.set(ylim=(0, most + 0.5), ylabel="records a step, and records")
    axes.set_title(title, fontsize=9)
    return picture.pixels(made)


def _box(axes: Any, *, flow: Dataflow, state: Mapping[str, Any], number: int, at: tuple[float, float]) -> None:
    one, (x, y) = flow.operators[number], at
    busy = float(state["busy"][0, number])
    blocked = float(state["blocked"][0, number])
    colour = picture.GREY if one.source else colormaps["RdYlGn_r"](0.15 + 0.7 * busy)
    rim = picture.RED if blocked > 0 else "white"
    corner = (x - _WIDE / 2, y - _HIGH / 2)
    axes.add_patch(
        FancyBboxPatch(corner, _WIDE, _HIGH, boxstyle="round,pad=0.02", facecolor=colour, edgecolor=rim, linewidth=2)
    )
    if one.source:
        told = (
            f"{one.name}\n{_short(float(state['into'][0, number]))}/s\nlag {_short(float(state['queue'][0, number]))}"
        )
    else:
        entry = flow.tunable.index(number)
        told = f"{one.name}\nx {int(state['count'][0, entry])}\nbusy {busy:.0%}"
        limit = float(model.buffers(flow, state["count"][:1])[0, number])
        full = min(float(state["queue"][0, number]) / limit, 1.0)
        axes.add_patch(Rectangle((corner[0], corner[1] - 0.12), _WIDE, 0.06, facecolor="#e8eaed"))
        axes.add_patch(Rectangle((corner[0], corner[1] - 0.12), _WIDE * full, 0.06, facecolor=picture.BLUE))
    axes.text(x, y, told, ha="center", va="center", fontsize=8, color=picture.INK)
    if blocked > 0:
        axes.text(x, y + _HIGH / 2 + 0.06, f"blocked {blocked:.0%}", ha="center", fontsize=8, color=picture.RED)


def _bars(axes: Any, *, flow: Dataflow, state: Mapping[str, Any], share: float) -> None:
    names = [flow.operators[one].name for one in flow.tunable]
    least = flow.least(np.asarray([[flow.inflow[one] * share for one in flow.tunable]]))[0]
    count = state["count"][0]
    enough = [picture.GREEN if now >= wanted else picture.RED for now, wanted in zip(count, least, strict=True)]
    axes.bar(names, count, color=enough)
    places = np.arange(len(names))
    axes.plot(places, least, "_", color=picture.INK, markersize=26, markeredgewidth=2)
    axes.set(ylim=(0, flow.max_parallelism + 1), ylabel="instances")
    axes.set_title("line: the least that carries what is offered", fontsize=9)


def _places(flow: Dataflow) -> list[tuple[float, float]]:
    """Columns by the longest way from a source; level with the middle of the inputs, or spread where two would overlap."""
    depth = [0] * len(flow.operators)
    for one in flow.order:
        for source, target in flow.pairs:
            if source == one:
                depth[target] = max(depth[target], depth[one] + 1)
    found = [(0.0, 0.0)] * len(depth)
    for column in range(max(depth) + 1):
        members = [one for one, at in enumerate(depth) if at == column]
        level = [float(np.mean([found[s][1] for s, t in flow.pairs if t == one] or [0.0])) for one in members]
        if any(abs(a - b) < 1.0 for a, b in itertools.combinations(level, 2)):
            level = [(len(members) - 1) / 2 - row for row in range(len(members))]
        for one, y in zip(members, level, strict=True):
            found[one] = (1.25 * column, y)
    return found


def _short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f}"
