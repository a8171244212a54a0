"""Pictures of edge placement: pods on nodes as bars of cores, and the users' demand by zone.

Called by `draw` alone. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import picture
from rlaas_ray.envs.edge import model
from rlaas_ray.specs.arrays import Array

COLOURS = (picture.BLUE, picture.GREEN, picture.AMBER)


def draw(params: model.Params, state: Mapping[str, Any]) -> Array:
    """Left: cores asked for on each node by service, pale while starting. Right: requests/s of each zone by service."""
    instance = params.instance
    services, nodes, zones = instance.shape
    run = state["run"][0]
    starting = state["starting"][0]
    made, (left, right) = picture.figure(columns=2, width_ratios=(1.6, 1.0))
    height, at = np.zeros(nodes), np.arange(nodes)
    capacity = params.known.cpu_capacity
    left.bar(at, capacity, color="none", edgecolor=picture.GREY, width=0.75)
    for service in range(services):
        colour, name = COLOURS[service % len(COLOURS)], instance.services[service].name
        for pods, alpha, label in ((run, 1.0, name), (starting, 0.4, None)):
            cores = pods[service] * params.known.cpu[service]
            left.bar(at, cores, bottom=height, color=colour, alpha=alpha, width=0.75, edgecolor="white", label=label)
            height += cores
        _figures(left, run[service], middle=height - (run + starting)[service] * params.known.cpu[service] / 2.0)
    left.set_xticks(at, [node.name for node in instance.nodes])
    left.set(ylabel="cores asked for (frame: there are)", ylim=(0, float(capacity.max()) * 1.08))
    left.legend(frameon=False, fontsize=9, loc="upper left")
    left.set_title(f"step {int(state['t'][0])} of {instance.steps}   figures: ready pods, pale: starting", fontsize=9)
    bottom = np.zeros(zones)
    for service in range(services):
        rate = state["rate"][0, service]
        colour = COLOURS[service % len(COLOURS)]
        right.bar(np.arange(zones), rate, bottom=bottom, color=colour, width=0.75, edgecolor="white")
        bottom += rate
    right.set_xticks(np.arange(zones), [f"zone {zone}" for zone in range(zones)])
    right.set(ylabel="requests/s")
    busy = float(state["utilisation"][0].max())
    right.set_title(f"demand now; busiest pods {busy:.0%}", fontsize=9)
    return picture.pixels(made)


def _figures(axes: Any, pods: Array, *, middle: Array) -> None:
    for node, (count, height) in enumerate(zip(pods, middle, strict=True)):
        if count > 0:
            axes.text(node, height, f"{int(count)}", ha="center", va="center", color="white", fontsize=8)
