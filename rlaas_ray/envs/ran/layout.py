"""Where sites, sectors and users stand: hexagonal sites with wrap-around, uniform and hotspot drops.

Called by channel.py, the pool of users and the optimisation problem. Knows nothing of radio, and draws nothing: it is
handed uniforms.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, I64

SECTORS = 3
BORESIGHT_DEG = (30.0, 150.0, 270.0)
NEIGHBOURS = 6
# Axial start vectors of the wrap (rotated six times): a cluster of 7 tiles the plane by (2,1), one of 19 by (3,2).
_WRAP = {1: (2, 1), 2: (3, 2)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Sites (S, 2), the seven images' offsets (7, 2), both in metres; cell = 3 * site + sector."""

    isd_m: float
    min_distance_m: float
    sites: F64
    images: F64

    @property
    def num_cells(self) -> int:
        """Sectors of all sites."""
        return SECTORS * len(self.sites)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Links:
    """Geometry to the nearest image of each site: distance (N, S) in m, azimuth (N, S) in degrees from +x."""

    distance_m: F64
    azimuth_deg: F64


def network(isd_m: float = 500.0, *, rings: int = 1, min_distance_m: float = 35.0) -> Network:
    """A hexagonal cluster of 7 (one ring) or 19 (two rings) sites on a torus."""
    if rings not in _WRAP:
        raise InvalidInput("rings of the network", given=rings, expected="1 or 2", cure="7 or 19 sites are built.")
    axial = [
        (i, j)
        for i in range(-rings, rings + 1)
        for j in range(-rings, rings + 1)
        if max(abs(i), abs(j), abs(i + j)) <= rings
    ]
    axial.sort(key=lambda ij: (max(abs(ij[0]), abs(ij[1]), abs(ij[0] + ij[1])), ij))
    step, wrap = _WRAP[rings], [(0, 0)]
    for _ in range(6):
        wrap.append(step)
        step = (-step[1], step[0] + step[1])
    return Network(
        isd_m=isd_m, min_distance_m=min_distance_m, sites=_plane(axial, isd_m=isd_m), images=_plane(wrap, isd_m=isd_m)
    )


def uniform_points(net: Network, uniform: F64) -> F64:
    """Points (N, 2), uniform in the union of hexagons and at least the minimum distance from a site. uniform (N, 1 + 3k), k >= 1.

    The site first, then a point of its hexagon (a disc biases the median loss); a point too near takes the next of k tries.
    """
    site = net.sites[np.minimum((uniform[:, 0] * len(net.sites)).astype(np.int64), len(net.sites) - 1)]
    local = _hexagon(net.isd_m, uniform=uniform[:, 1:4])
    for first in range(4, uniform.shape[1], 3):
        near = np.hypot(local[:, 0], local[:, 1]) < net.min_distance_m
        local = np.where(near[:, None], _hexagon(net.isd_m, uniform=uniform[:, first : first + 3]), local)
    return _push_out(local, least=net.min_distance_m) + site


def hotspot_points(net: Network, centres: F64, *, normal: F64, sigma_m: float = 30.0) -> F64:
    """Gaussian points around centres; both (N, 2). A point too near to a site is pushed out to the minimum distance."""
    points = centres + sigma_m * normal
    relative = points[:, None, None, :] - net.sites[None, :, None, :] - net.images[None, None, :, :]
    flat = relative.reshape(len(points), -1, 2)
    nearest = flat[np.arange(len(points)), np.argmin(np.sum(flat * flat, axis=2), axis=1)]
    found: F64 = points + (_push_out(nearest, least=net.min_distance_m) - nearest)
    return found


def links(net: Network, points: F64) -> Links:
    """Distance and azimuth from the nearest image of each site to each point (N, 2)."""
    best_x = np.empty((len(points), len(net.sites)))
    best_y, best = np.empty_like(best_x), np.full_like(best_x, np.inf)
    for image in net.images:
        dx = points[:, None, 0] - (net.sites[None, :, 0] + image[0])
        dy = points[:, None, 1] - (net.sites[None, :, 1] + image[1])
        square = dx * dx + dy * dy
        nearer = square < best
        best_x, best_y, best = (
            np.where(nearer, dx, best_x),
            np.where(nearer, dy, best_y),
            np.where(nearer, square, best),
        )
    return Links(distance_m=np.sqrt(best), azimuth_deg=np.degrees(np.arctan2(best_y, best_x)))


def off_boresight(azimuth_deg: F64) -> F64:
    """Angle from each sector's boresight, (N, S) -> (N, S, 3), in -180..180 degrees."""
    difference = azimuth_deg[:, :, None] - np.asarray(BORESIGHT_DEG)
    found: F64 = (difference + 180.0) % 360.0 - 180.0
    return found


def neighbours(net: Network) -> I64:
    """The six cells that each cell is most coupled with, (C, 6): geometry alone, so it is the same for every seed.

    Coupling = mean over the points that cell c would serve of the interference of j over the signal of c, both ways, with a
    path loss of 39 dB a decade and the 65 degree pattern. Ties go to the lower cell.
    """
    return _neighbours(len(net.sites), net.isd_m, net.min_distance_m)


@functools.lru_cache(maxsize=4)
def _neighbours(sites: int, isd_m: float, min_distance_m: float) -> I64:  # noqa: PLR0917 - a cache key
    net = network(isd_m, rings={7: 1, 19: 2}[sites], min_distance_m=min_distance_m)
    grid = (np.arange(24) + 0.5) / 24
    side, a, b = np.meshgrid((np.arange(3) + 0.5) / 3, grid, grid, indexing="ij")
    local = _push_out(
        _hexagon(isd_m, uniform=np.stack((side.ravel(), a.ravel(), b.ravel()), axis=1)), least=min_distance_m
    )
    points = (net.sites[:, None, :] + local[None, :, :]).reshape(-1, 2)
    link = links(net, points)
    pattern = np.minimum(12.0 * (off_boresight(link.azimuth_deg) / 65.0) ** 2, 25.0)
    gain = (-39.08 * np.log10(link.distance_m)[:, :, None] - pattern).reshape(len(points), -1)
    serving = np.argmax(gain, axis=1)
    ratio = 10.0 ** ((gain - gain.max(axis=1, keepdims=True)) / 10.0)
    coupling = np.stack([ratio[serving == cell].mean(axis=0) for cell in range(net.num_cells)])
    coupling = np.round(coupling + coupling.T, 6)
    np.fill_diagonal(coupling, -1.0)
    return np.argsort(-coupling, axis=1, kind="stable")[:, :NEIGHBOURS]


def _plane(axial: list[tuple[int, int]], *, isd_m: float) -> F64:
    ij = np.asarray(axial, dtype=np.float64)
    return isd_m * np.stack((ij[:, 0] + ij[:, 1] / 2.0, ij[:, 1] * np.sqrt(3.0) / 2.0), axis=1)


def _hexagon(isd_m: float, *, uniform: F64) -> F64:
    """A point of the hexagon from three uniforms: which of its three rhombi, and where in it."""
    angle = np.radians(30.0 + 120.0 * np.arange(4))
    corner = isd_m / np.sqrt(3.0) * np.stack((np.cos(angle), np.sin(angle)), axis=1)
    side = np.minimum((uniform[:, 0] * 3).astype(np.int64), 2)
    found: F64 = uniform[:, 1:2] * corner[side] + uniform[:, 2:3] * corner[side + 1]
    return found


def _push_out(local: F64, *, least: float) -> F64:
    """Points (N, 2) around the origin, moved out along their direction to at least `least`."""
    distance = np.maximum(np.hypot(local[:, 0], local[:, 1]), 1e-9)
    return local * np.maximum(1.0, least / distance)[:, None]
