"""RanControl as a picture: 21 sectors on their map, their load and power; beside them load against what each serves.

Called by `render()`. Shows the first network of a batch; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Wedge

from rlaas_ray.envs import picture
from rlaas_ray.envs.ran import dynamics, layout, measures
from rlaas_ray.specs.arrays import F64, Array

_REACH_M = 230.0  # of the wedge of a sector at full power


def draw(state: Mapping[str, Any]) -> Array:
    """Wedges: length is power, colour is load, grey is asleep. Bars: users of each cell."""
    net = layout.network()
    power, load = state["power"][0], state["load"][0]
    asleep = power <= dynamics.POWER_DBM[0]
    users = np.bincount(state["cell"][0][state["cell"][0] >= 0], minlength=measures.CELLS)
    made, (left, right) = picture.figure(columns=2, width_ratios=(1.0, 1.1))
    scale = colormaps["RdYlGn_r"]
    low, high = dynamics.POWER_DBM
    for cell in range(measures.CELLS):
        x, y = net.sites[cell // layout.SECTORS]
        middle = layout.BORESIGHT_DEG[cell % layout.SECTORS]
        reach = _REACH_M * (0.35 + 0.65 * float(power[cell] - low) / (high - low))
        colour = picture.GREY if asleep[cell] else scale(min(float(load[cell]), 1.0))
        left.add_patch(Wedge((x, y), reach, middle - 55, middle + 55, facecolor=colour, edgecolor="white"))
    left.plot(net.sites[:, 0], net.sites[:, 1], "^", color=picture.INK, markersize=5)
    left.set_aspect("equal")
    left.set_axis_off()
    left.autoscale_view()
    hour = int(state["hour"][0]) * 24.0 / dynamics.HOURS
    left.set_title(f"{int(hour):02d}:{int(hour % 1 * 60):02d}   length: power, colour: load, grey: asleep", fontsize=9)
    cells = np.arange(measures.CELLS)
    right.bar(
        cells,
        load,
        color=[picture.GREY if off else scale(min(float(one), 1.0)) for off, one in zip(asleep, load, strict=True)],
    )
    right.plot(cells, users / max(users.max(), 1), "o", color=picture.INK, markersize=3)
    right.set(xlabel="cell", ylabel="load (bars)", ylim=(0, 1.05))
    right.set_title(f"points: users, at most {users.max()} in a cell", fontsize=9)
    return picture.pixels(made)


def draw_tiny(state: Mapping[str, Any], *, normalised: F64) -> Array:
    """The step's 729 actions by energy saved and users satisfied; normalised (8, 729, 4)."""
    step = int(state["step"][0]) % len(normalised)
    reached = normalised[step]
    made, axes = picture.figure(width_px=500, height_px=400)
    shown = axes.scatter(reached[:, 2], reached[:, 3], c=reached[:, 1], cmap="viridis", s=12)
    made.colorbar(shown, ax=axes, label="throughput, share of what is asked for")
    axes.set(xlabel="energy saved", ylabel="users satisfied", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axes.set_title(f"step {step + 1} of {len(normalised)}: what each of the 729 actions reaches", fontsize=9)
    return picture.pixels(made)
