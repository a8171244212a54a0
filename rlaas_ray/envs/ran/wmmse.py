"""WMMSE for the scalar interference channel, one power limit a link: the published yardstick of power control.

Called by the acceptance test and by whoever compares a learned power control. It sees every gain: a reference, no policy.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64


def wmmse(gain: F64, *, limit: float = 1.0, noise: float = 1.0, iterations: int = 100) -> F64:
    """Powers (n, K) after so many rounds from full power (Shi et al. 2011). gain (n, K, K): |h|^2, receiver i, transmitter j."""
    if gain.ndim != 3 or gain.shape[1] != gain.shape[2]:
        raise InvalidInput(
            "gains", given=gain.shape, expected="(n, K, K)", cure="One square matrix of |h|^2 a channel."
        )
    own = np.sqrt(np.diagonal(gain, axis1=1, axis2=2))
    amplitude = np.full(own.shape, np.sqrt(limit))
    for _ in range(iterations):
        received = np.matmul(gain, (amplitude**2)[:, :, None])[:, :, 0] + noise
        receiver = own * amplitude / received
        weight = 1.0 / (1.0 - receiver * own * amplitude)
        hurt = np.matmul((weight * receiver**2)[:, None, :], gain)[:, 0, :]
        amplitude = np.clip(weight * receiver * own / np.maximum(hurt, 1e-300), 0.0, np.sqrt(limit))
    powers: F64 = amplitude**2
    return powers


def sum_rate(gain: F64, power: F64, *, noise: float = 1.0) -> F64:
    """Bits per second and hertz (n,) of all links together."""
    own = np.diagonal(gain, axis1=1, axis2=2) * power
    others = np.matmul(gain, power[:, :, None])[:, :, 0] - own
    rate: F64 = np.log2(1.0 + own / (others + noise)).sum(axis=1)
    return rate
