"""Where a new pod goes: three scoring plugins of the Kubernetes scheduler, integers from 0 to 100, every division floored.

Called by the baselines and by the replicas form of an action. Rules of kubernetes/kubernetes
pkg/scheduler/framework/plugins: noderesources/least_allocated.go, balanced_allocation.go, imagelocality/image_locality.go, each
of weight 1. Ties go to the lowest index here; the real scheduler draws.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.envs.edge import config
from rlaas_ray.specs.arrays import F64, I64, Bool

MIB = 1 << 20
_GIB = 1 << 30
_MB = 1_000_000
DEFAULT_CPU_MILLI, DEFAULT_MEMORY = 100, 200 * MIB  # of a pod without requests
_IMAGE_LEAST, _IMAGE_MOST = 23 * MIB, 1000 * MIB
_BEST = 100
_ROUNDING = 1e-4  # demand comes as float32: a whole number of pods must not become one more


def least_allocated(requested: I64, capacity: I64) -> I64:
    """Mean over the resources (last axis) of the share that stays free; `requested` includes the new pod."""
    free = (capacity - requested) * _BEST // capacity
    each = np.where(requested > capacity, 0, free)
    found: I64 = each.sum(axis=-1) // each.shape[-1]
    return found


def balanced_allocation(requested: I64, capacity: I64) -> I64:
    """100 times one minus the standard deviation of the requested shares, of which none counts for more than 1."""
    share = np.minimum(requested / capacity, 1.0)
    spread = np.abs(share[..., 0] - share[..., 1]) / 2.0
    found: I64 = np.trunc((1.0 - spread) * _BEST).astype(np.int64)
    return found


def image_locality(image_bytes: I64, *, cached: Bool) -> I64:
    """Of nodes on the last axis: image size times the share of nodes that have it, between 23 and 1000 MiB, 0 without it."""
    holders = cached.sum(axis=-1, keepdims=True)
    spread = holders / cached.shape[-1]
    size = np.where(cached, (image_bytes * spread).astype(np.int64), 0)
    size = np.clip(size, _IMAGE_LEAST, _IMAGE_MOST)
    found: I64 = _BEST * (size - _IMAGE_LEAST) // (_IMAGE_MOST - _IMAGE_LEAST)
    return found


def scores(instance: config.Instance, held: I64, *, cache: Bool) -> I64:
    """The sum of the three, of every service on every node, as if one pod more went there.

    held (B, S, N) ready and starting pods, cache (B, S, N) -> (B, S, N).
    """
    request = np.asarray([_request(one) for one in instance.services], dtype=np.int64)  # (S, 2)
    capacity = np.asarray([_milli_bytes(one.cpu, one.memory_gib) for one in instance.nodes], dtype=np.int64)  # (N, 2)
    image = np.asarray([round(one.image_mb * _MB) for one in instance.services], dtype=np.int64)
    asked = np.zeros((len(held), *capacity.shape), np.int64)  # (B, N, 2)
    for service, wanted in enumerate(request):
        asked += held[:, service, :, None] * wanted
    would = asked[:, None] + request[:, None]  # (B, S, N, 2)
    return (
        least_allocated(would, capacity)
        + balanced_allocation(would, capacity)
        + image_locality(image[:, None], cached=cache)
    )


def _request(service: config.Service) -> tuple[int, int]:
    cpu, memory = _milli_bytes(service.cpu, service.memory_gib)
    return cpu or DEFAULT_CPU_MILLI, memory or DEFAULT_MEMORY


def _milli_bytes(cpu: float, memory_gib: float) -> tuple[int, int]:
    return round(cpu * 1000), round(memory_gib * _GIB)


def desired(ready: F64, demand: F64, *, rate: F64, target: float) -> tuple[F64, Bool]:
    """Replicas that the HPA asks for, and whether the metric is within its tolerance, where nothing changes.

    Kubernetes' documentation and KEP-4951: ceil(current metric/target), no change while |metric/target - 1| <= 0.1. The metric is
    CPU utilisation, at most 1: a pod cannot use more than its limit.
    """
    room = ready * rate
    metric = np.minimum(1.0, np.where(room > 0.0, demand / np.where(room > 0.0, room, 1.0), 1.0))
    ratio = metric / target
    return np.ceil(ready * ratio - _ROUNDING), np.abs(ratio - 1.0) <= 0.1
