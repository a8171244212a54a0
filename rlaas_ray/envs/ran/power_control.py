"""WMMSE for many PRBs under one power limit for each cell: the strongest known answer on the throughput axis.

Called by problem.py for an anchor of the front. It sees every gain, so it is a reference and not a policy; it knows
nothing of energy, latency or fairness.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64


def sum_power(own: F64, *, cross: F64, noise: float, limit: F64, iterations: int = 100) -> F64:
    """Powers (K, C) that locally maximise the sum rate (Shi et al. 2011, scalar links; limit over all PRBs of a cell).

    own (K, C) gain of each link, cross (K, C, C) gain at the receiver of row c from cell j (zero diagonal), limit (C,).
    """
    most = np.maximum(limit, 1e-30)
    # In units of noise and of the limit, so that every amplitude is about 1.
    direct = np.sqrt(own * most / noise)
    power_at = cross * (most / noise)
    amplitude = np.sqrt(np.where(own > 0, 1.0 / own.shape[0], 0.0) * (limit > 0))
    for _ in range(iterations):
        received = (power_at @ np.square(amplitude)[:, :, None])[:, :, 0] + np.square(direct * amplitude) + 1.0
        receiver = direct * amplitude / received
        weight = 1.0 / np.maximum(1.0 - receiver * direct * amplitude, 1e-12)
        pull = weight * receiver * direct
        hurt = weight * np.square(receiver)
        cost = (power_at.transpose(0, 2, 1) @ hurt[:, :, None])[:, :, 0] + hurt * np.square(direct)
        amplitude = _within(pull, cost=cost)
    return np.asarray(np.square(amplitude) * limit, dtype=np.float64)


def _within(pull: F64, *, cost: F64) -> F64:
    """The pull over (cost + price), with the smallest price >= 0 for each cell that keeps its squares within a sum of 1."""
    cost = np.maximum(cost, 1e-30)
    low = np.zeros(pull.shape[1])
    # At this price the sum is at most 1 whatever the cost.
    high = np.sqrt(np.square(pull).sum(axis=0))
    free = np.square(pull / cost).sum(axis=0) <= 1.0
    for _ in range(50):
        price = 0.5 * (low + high)
        over = np.square(pull / (cost + price)).sum(axis=0) > 1.0
        low, high = np.where(over, price, low), np.where(over, high, price)
    return np.asarray(pull / (cost + np.where(free, 0.0, high)), dtype=np.float64)
