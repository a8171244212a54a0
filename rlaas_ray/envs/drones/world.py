"""What surrounds the drones: no-fly zones and the stream of orders, functions of an environment's key alone.

Called at resets and when an order is due. The same orders come whatever the policy does: common random numbers for
comparisons, and what makes the bound one.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F64, I64

ABSENT_M = 1e6  # where a zone is that was dropped: beyond every clip
_ZONE_TRIES, _ORDER_TRIES = 50, 64
_AT_ONCE = 4  # tries of an order that are drawn together: the generator costs as much for one of a few rows
_ZONE_CLEAR_M, _ORDER_CLEAR_M = 20.0, 10.0


def zones(params: DroneParams, streams: philox.Streams) -> F64:
    """(B, zones, 3): x, y, radius. Redrawn until 20 m clear of every pad and other zone; dropped after 50 tries."""
    count = len(streams.seed)
    made = np.zeros((count, params.zones, 3))
    made[..., :2] = ABSENT_M
    low, high = params.zone_radius_m
    for k in range(params.zones):
        pending = np.arange(count)
        for attempt in range(_ZONE_TRIES):
            u = _uniform(streams.take(pending), blocks=[attempt], t=np.full(len(pending), k), purpose=p.ZONE)
            centre = u[:, :2] * np.asarray(params.area_m)
            radius = low + u[:, 2] * (high - low)
            clear = np.ones(len(pending), np.bool_)
            for pad in params.pads:
                clear &= p.length(centre - pad[:2]) - radius >= _ZONE_CLEAR_M
            for other in range(k):
                there = made[pending, other]
                clear &= p.length(centre - there[:, :2]) - radius - there[:, 2] >= _ZONE_CLEAR_M
            settled = pending[clear]
            made[settled, k, :2], made[settled, k, 2] = centre[clear], radius[clear]
            pending = pending[~clear]
            if not len(pending):
                break
    return made


def orders(params: DroneParams, streams: philox.Streams, *, number: I64, zone: F64) -> tuple[F64, F64, F64]:
    """Pickups (n, 3), drops (n, 3) and payloads in kg (n,) of the orders `number` (n,), 10 m clear of the zones (n, Z, 3)."""
    made = np.empty((len(number), 7))
    x, y = params.area_m
    low = np.tile([params.margin_m, params.margin_m, params.order_altitude_m[0]], 2)
    span = np.tile([x - params.margin_m, y - params.margin_m, params.order_altitude_m[1]], 2) - low
    pending = np.arange(len(number))
    for attempt in range(0, _ORDER_TRIES, _AT_ONCE):
        blocks = list(range(2 * attempt, 2 * (attempt + _AT_ONCE)))
        u = _uniform(streams.take(pending), blocks=blocks, t=number[pending], purpose=p.ORDER)
        u = u.reshape(-1, _AT_ONCE, 2 * philox.WORDS_PER_BLOCK)
        ends, around = low + u[..., :6] * span, zone[pending][:, None]
        near = np.minimum(_clearance(ends[..., :2], around), _clearance(ends[..., 3:5], around))
        clear = near >= _ORDER_CLEAR_M
        settled = clear.any(axis=1)
        first = np.where(settled, clear.argmax(axis=1), _AT_ONCE - 1)
        row = np.arange(len(pending))
        made[pending, :6], made[pending, 6] = ends[row, first], u[row, first, 6]
        pending = pending[~settled]
        if not len(pending):
            break
    payload = params.payload_kg[0] + made[:, 6] * (params.payload_kg[1] - params.payload_kg[0])
    return made[:, :3].copy(), made[:, 3:6].copy(), payload


def nearest_zone(position: F64, *, zone: F64) -> tuple[F64, F64, F64]:
    """To the nearest point of the nearest zone's edge: x, y and the signed distance, negative inside; (n,) each."""
    count = len(position)
    if not zone.shape[1]:
        far = np.full(count, ABSENT_M)
        return far, far, far
    x, y = position[:, 0].copy(), position[:, 1].copy()
    best = np.full(count, np.inf)
    east, north, range_m = np.ones(count), np.ones(count), np.ones(count)
    for k in range(zone.shape[1]):
        dx, dy = zone[:, k, 0] - x, zone[:, k, 1] - y
        far = np.sqrt(dx * dx + dy * dy)
        signed = far - zone[:, k, 2]
        nearer = signed < best
        best = np.where(nearer, signed, best)
        east, north, range_m = np.where(nearer, dx, east), np.where(nearer, dy, north), np.where(nearer, far, range_m)
    scale = best / np.maximum(range_m, 1e-9)
    return east * scale, north * scale, best


def _clearance(point: F64, zone: F64) -> F64:
    """Signed distance (..., ) of points (..., 2) to the nearest of their zones (..., Z, 3)."""
    best = np.full(point.shape[:-1], np.inf)
    for k in range(zone.shape[-2]):
        best = np.minimum(best, p.length(point - zone[..., k, :2]) - zone[..., k, 2])
    return best


def _uniform(streams: philox.Streams, *, blocks: list[int], t: I64, purpose: int) -> F64:
    return philox.u01(streams.words(p.u32(blocks), t=p.u32(t), purpose=p.u32([purpose] * len(blocks))))
