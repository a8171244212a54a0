"""Our environments: an id, and where its pure functions, baselines, card and training view are. Loaded when they are asked for.

Read by registry.py and scoring.py. To add one, add an Entry here and its baselines as entry point `rlaas.baselines`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaas_ray.envs import vector

EDGE, EDGE_TINY = "rlaas/EdgePlacement-v1", "rlaas/EdgePlacement-tiny-v1"
EDGE_COMPAT = "rlaas/EdgePlacement-v3compat-v1"
RAN, RAN_TINY = "rlaas/RanControl-v1", "rlaas/RanControl-tiny-v1"
STREAMS, STREAMS_TINY = "rlaas/StreamParallelism-v1", "rlaas/StreamParallelism-tiny-v1"
STREAMS_WORDCOUNT = "rlaas/StreamParallelism-wordcount-v1"
DRONES, DRONES_TINY = "rlaas/DroneDelivery-v1", "rlaas/DroneDelivery-tiny-v1"
FLEET, FLEET_TINY = "rlaas/DroneFleet-v1", "rlaas/DroneFleet-tiny-v1"
SLATES, SLATES_TINY = "rlaas/SlateRecommendation-v1", "rlaas/SlateRecommendation-tiny-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`domain` and `view` as module:attribute; `card` is a file beside the baselines' module; `block` envs fit the cache."""

    domain: str  # keyword arguments -> vector.Domain
    baselines: str  # a module with POLICIES, REFERENCES, REFERENCE, card
    card: str | None = "REFERENCE.json"
    view: str | None = None
    block: int = vector.BLOCK


ENTRIES: Mapping[str, Entry] = {
    RAN: Entry(
        domain="rlaas_ray.envs.ran.env:domain",
        baselines="rlaas_ray.envs.ran.baselines",
        view="rlaas_ray.envs.ran.training:RanView",
    ),
    RAN_TINY: Entry(
        domain="rlaas_ray.envs.ran.tiny:Tiny",
        baselines="rlaas_ray.envs.ran.baselines_tiny",
        card="REFERENCE-tiny.json",
        block=4096,
    ),
    STREAMS: Entry(
        domain="rlaas_ray.envs.stream.env:domain",
        baselines="rlaas_ray.envs.stream.baselines",
        block=1024,
    ),
    STREAMS_WORDCOUNT: Entry(
        domain="rlaas_ray.envs.stream.env:wordcount",
        baselines="rlaas_ray.envs.stream.baselines_wordcount",
        card="REFERENCE-wordcount.json",
        block=1024,
    ),
    STREAMS_TINY: Entry(
        domain="rlaas_ray.envs.stream.tiny:Tiny",
        baselines="rlaas_ray.envs.stream.baselines_tiny",
        card="REFERENCE-tiny.json",
        block=4096,
    ),
    DRONES: Entry(
        domain="rlaas_ray.envs.drones.env:domain",
        baselines="rlaas_ray.envs.drones.baselines",
        view="rlaas_ray.envs.drones.training:DroneView",
        block=1024,
    ),
    DRONES_TINY: Entry(
        domain="rlaas_ray.envs.drones.tiny:Tiny",
        baselines="rlaas_ray.envs.drones.baselines_tiny",
        card="REFERENCE-tiny.json",
        block=4096,
    ),
    FLEET: Entry(
        domain="rlaas_ray.envs.drones.fleet:domain",
        baselines="rlaas_ray.envs.drones.fleet_baselines",
        card="REFERENCE-fleet.json",
        view="rlaas_ray.envs.drones.training:FleetView",
        block=1024,
    ),
    FLEET_TINY: Entry(
        domain="rlaas_ray.envs.drones.fleet_tiny:domain",
        baselines="rlaas_ray.envs.drones.fleet_tiny",
        card="REFERENCE-fleet-tiny.json",
        block=512,
    ),
    SLATES: Entry(
        domain="rlaas_ray.envs.recommendation.env:domain",
        baselines="rlaas_ray.envs.recommendation.baselines",
        block=1024,
    ),
    SLATES_TINY: Entry(
        domain="rlaas_ray.envs.recommendation.tiny:Tiny",
        baselines="rlaas_ray.envs.recommendation.baselines_tiny",
        card="REFERENCE-tiny.json",
        block=4096,
    ),
    EDGE: Entry(
        domain="rlaas_ray.envs.edge.env:domain",
        baselines="rlaas_ray.envs.edge.baselines",
        block=1024,
    ),
    EDGE_TINY: Entry(
        domain="rlaas_ray.envs.edge.env:tiny_domain",
        baselines="rlaas_ray.envs.edge.baselines_tiny",
        card="REFERENCE-tiny.json",
        block=512,
    ),
    EDGE_COMPAT: Entry(
        domain="rlaas_ray.envs.edge.compat:domain",
        baselines="rlaas_ray.envs.edge.baselines_compat",
        card="REFERENCE-v3compat.json",
        block=512,
    ),
}


def load(name: str) -> Any:
    """What `module:attribute` names; of our own code, so that a missing one is our fault."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
