"""Drones as a picture: the map from above with zones, goals, others and wind; beside it charge and altitude.

Called by `render()`. Shows the first world of a batch; changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Circle

from rlaas_ray.envs import picture
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import Array

_WIND_M_PER_MPS = 12.0
_DOING = {p.TO_PICKUP: "to pickup", p.TO_DROP: "to drop", p.TO_PAD: "to pad", p.FREE: "free"}
_COLOURS = {p.TO_PICKUP: picture.BLUE, p.TO_DROP: picture.GREEN, p.TO_PAD: picture.AMBER, p.FREE: picture.GREY}


def draw(params: DroneParams, state: Mapping[str, Any]) -> Array:
    """One drone and its traffic."""
    made, (left, right) = picture.figure(columns=2, width_ratios=(1.4, 1.0))
    _ground(left, params=params, state=state)
    _drones(left, position=state["position"][:1], goal=state["goal"][:1], phase=state["phase"][:1])
    others = state["traffic_position"][0]
    left.plot(others[:, 0], others[:, 1], "s", color=picture.INK, markersize=5)
    for place, speed in zip(others, state["traffic_velocity"][0], strict=True):
        left.annotate("", place[:2] + 5.0 * speed[:2], place[:2], arrowprops={"arrowstyle": "->", "color": picture.INK})
        left.annotate(f" {place[2]:.0f} m", place[:2], fontsize=7)
    now = int(state["t"][0]) * params.dt
    left.set_title(f"{now:.0f} s, {_DOING[int(state['phase'][0])]}; squares: traffic", fontsize=9)
    drone, goal = state["position"][0], state["goal"][0]
    shares = [
        state["energy"][0] / params.energy_j,
        drone[2] / params.altitude_m[1],
        p.length(state["velocity"][0]) / p.length(np.asarray(params.speed_mps)),
        np.clip((state["deadline"][0] - now) / 60.0, 0.0, 1.0) if state["phase"][0] != p.TO_PAD else 0.0,
    ]
    labels = [
        f"charge {state['energy'][0] / 1e3:.1f} kJ",
        f"altitude {drone[2]:.0f} m (goal {goal[2]:.0f})",
        f"speed {p.length(state['velocity'][0]):.1f} m/s",
        f"deadline in {max(state['deadline'][0] - now, 0.0):.0f} s" if state["phase"][0] != p.TO_PAD else "no deadline",
    ]
    _bars(right, shares=shares, labels=labels)
    return picture.pixels(made)


def draw_fleet(params: DroneParams, state: Mapping[str, Any]) -> Array:
    """The fleet and the open orders."""
    made, (left, right) = picture.figure(columns=2, width_ratios=(1.4, 1.0))
    _ground(left, params=params, state=state)
    alive = state["alive"][0]
    _drones(
        left,
        position=state["position"][0][alive],
        goal=state["goal"][0][alive],
        phase=state["phase"][0][alive],
    )
    waiting = state["queue_number"][0] >= 0
    spots = state["queue_pickup"][0][waiting]
    left.plot(spots[:, 0], spots[:, 1], "v", color=picture.RED, markersize=5)
    left.set_title(
        f"{int(state['t'][0]) * params.dt:.0f} s, {int(alive.sum())} drones; triangles: {len(spots)} orders waiting",
        fontsize=9,
    )
    count = len(alive)
    charge = np.where(alive, state["energy"][0] / params.energy_j, 0.0)
    colours = [_COLOURS[int(one)] for one in state["phase"][0]]
    right.barh(np.arange(count), charge, color=colours)
    right.set(yticks=np.arange(count), xlim=(0, 1), xlabel="charge", ylabel="drone")
    right.invert_yaxis()
    right.set_title("blue: to pickup, green: to drop,\namber: to pad, grey: free", fontsize=8)
    return picture.pixels(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Places of the tiny form, its steps and its charge."""

    pickup: int
    drop: int
    last: int
    steps: int
    energy: int


def draw_tiny(state: Mapping[str, Any], *, lattice: Lattice) -> Array:
    """The lattice: place, speed, target, charge and time left."""
    made, (left, right) = picture.figure(columns=2, width_ratios=(1.8, 1.0))
    x, v = int(state["x"][0]), int(state["v"][0])
    target = lattice.pickup if state["phase"][0] == p.TO_PICKUP else lattice.drop
    left.hlines(0, 0, lattice.last, color=picture.GREY)
    left.plot(np.arange(lattice.last + 1), np.zeros(lattice.last + 1), "|", color=picture.GREY)
    left.plot(lattice.pickup, 0, "v", color=picture.BLUE, markersize=10)
    left.plot(lattice.drop, 0, "s", color=picture.GREEN, markersize=10)
    left.plot(target, 0, "o", color=picture.AMBER, markersize=18, fillstyle="none")
    left.plot(x, 0.05, "o", color=picture.INK, markersize=9)
    if v:
        left.annotate("", (x + v, 0.12), (x, 0.12), arrowprops={"arrowstyle": "->", "color": picture.INK})
    left.set(ylim=(-0.3, 0.5), yticks=[], xlabel="place")
    left.set_title(f"drone at {x}, speed {v}; triangle: pickup, square: drop, ring: goal", fontsize=9)
    energy, spent = int(state["e"][0]), int(state["t"][0])
    _bars(
        right,
        shares=[energy / lattice.energy, (lattice.steps - spent) / lattice.steps],
        labels=[f"charge {energy}", f"{lattice.steps - spent} steps left"],
    )
    return picture.pixels(made)


def _ground(axes: Any, *, params: DroneParams, state: Mapping[str, Any]) -> None:
    for x, y, radius in state["zone"][0]:
        if radius > 0.0:
            axes.add_patch(Circle((x, y), radius, facecolor=picture.RED, alpha=0.25, edgecolor=picture.RED))
    for pad in params.pads_m:
        axes.plot(pad[0], pad[1], "P", color=picture.AMBER, markersize=11)
    width, height = params.area_m
    wind = state["wind"][0] * _WIND_M_PER_MPS
    corner = np.asarray([0.1 * width, 0.93 * height])
    axes.annotate("", corner + wind, corner, arrowprops={"arrowstyle": "-|>", "color": picture.BLUE, "lw": 2})
    axes.text(0.02 * width, 0.98 * height, f"wind {p.length(state['wind'][0]):.1f} m/s", fontsize=8, va="top")
    axes.set(xlim=(0, width), ylim=(0, height), xlabel="east, m", ylabel="north, m")
    axes.set_aspect("equal")


def _drones(axes: Any, *, position: Any, goal: Any, phase: Any) -> None:
    for place, target, doing in zip(position, goal, phase, strict=True):
        colour = _COLOURS[int(doing)]
        axes.plot([place[0], target[0]], [place[1], target[1]], ":", color=colour)
        axes.plot(target[0], target[1], "o", color=colour, markersize=9, fillstyle="none")
        axes.plot(place[0], place[1], "o", color=colour, markersize=8)


def _bars(axes: Any, *, shares: list[Any], labels: list[str]) -> None:
    axes.barh(np.arange(len(shares)), shares, color=picture.BLUE)
    axes.set(yticks=np.arange(len(shares)), yticklabels=labels, xlim=(0, 1), xticks=[])
    axes.invert_yaxis()
