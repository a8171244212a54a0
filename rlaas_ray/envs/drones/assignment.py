"""Who takes which order: greedy by age, optimal by the Hungarian method, optimal by auction. Pure; one fleet at a time.

Called by queue.py with costs in seconds, infinite where a drone must not take an order. Pairs of infinite cost are never
made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from rlaas_ray.specs.arrays import F64, I64

FORBIDDEN_S = 1e6
_CENTS = 100.0
_SCALING = 5
Pairs = tuple[I64, I64]  # drones, orders


def nearest(costs: F64) -> Pairs:
    """Orders in turn (oldest first) take the drone that costs them least. costs (drones, orders) in seconds."""
    left = costs.copy()
    drones, orders = [], []
    for order in range(costs.shape[1]):
        drone = int(left[:, order].argmin())
        if np.isfinite(left[drone, order]):
            drones.append(drone)
            orders.append(order)
            left[drone] = np.inf
    return np.asarray(drones, dtype=np.int64), np.asarray(orders, dtype=np.int64)


def hungarian(costs: F64) -> Pairs:
    """The least total cost (Kuhn 1955; scipy's Jonker-Volgenant). SciPy raises on an infeasible matrix: none is given."""
    drones, orders = linear_sum_assignment(np.where(np.isfinite(costs), costs, FORBIDDEN_S))
    return _allowed(drones, orders, costs=costs)


def auction(costs: F64) -> Pairs:
    """The least total cost by Bertsekas' forward auction with epsilon-scaling (1988), exact for costs rounded to 0.01 s.

    Costs are integers times n + 1 and the last epsilon is 1, so that it is less than 1/n of a unit. The shorter side is filled up
    with indifferent bidders: scaling needs a square problem.
    """
    cents = cents_of(costs)
    swapped = cents.shape[0] > cents.shape[1]
    cents = cents.T if swapped else cents
    count = cents.shape[1]
    benefit = np.zeros((count, count), np.int64)
    benefit[: len(cents)] = -cents * (count + 1)
    taken = _bid(benefit)[: len(cents)]
    bidders = np.arange(len(taken))
    drones, orders = (taken, bidders) if swapped else (bidders, taken)
    return _allowed(drones, orders, costs=costs)


def cents_of(costs: F64) -> I64:
    """Costs in hundredths of a second, integers."""
    return np.rint(np.where(np.isfinite(costs), costs, FORBIDDEN_S) * _CENTS).astype(np.int64)


METHODS: Mapping[str, Callable[[F64], Pairs]] = {"nearest": nearest, "hungarian": hungarian, "auction": auction}


def _bid(benefit: I64) -> I64:
    """The object of each bidder (n,) of a square problem of integer benefits."""
    count = len(benefit)
    prices = np.zeros(count, np.int64)
    owner, holds = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    epsilon = max(int(np.abs(benefit).max()) // 2, 1)
    while True:
        owner[:], holds[:] = -1, -1
        waiting = list(range(count))
        while waiting:
            bidder = waiting.pop()
            worth = benefit[bidder] - prices
            best = int(worth.argmax())
            top = int(worth[best])
            worth[best] = np.iinfo(np.int64).min
            second = int(worth.max()) if count > 1 else top
            prices[best] += top - second + epsilon
            if owner[best] >= 0:
                holds[owner[best]] = -1
                waiting.append(int(owner[best]))
            owner[best], holds[bidder] = bidder, best
        if epsilon == 1:
            return holds
        epsilon = max(epsilon // _SCALING, 1)


def _allowed(drones: I64, orders: I64, *, costs: F64) -> Pairs:
    kept = np.isfinite(costs[drones, orders])
    return drones[kept], orders[kept]
