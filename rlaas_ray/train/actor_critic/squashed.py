"""The tanh-squashed Gaussian while training: reparameterised draws, log-densities and their gradient, float32.

Called by sac.py and explorers.py. policies/heads.py is the same distribution for serving, in float64, and a test holds the two
together. Never chooses a random number: noise is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies.heads import LOG_STD_HIGH, LOG_STD_LOW
from rlaas_ray.specs.arrays import F32, Bool

_LOG_2 = np.float32(np.log(2.0))
_HALF_LOG_2PI = np.float32(0.5 * np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Actions tanh(u) (n, a), u = mean + std * noise; their log-density (n,), and what the backward pass needs again."""

    actions: F32
    log_probability: F32
    spread: F32  # std * noise (n, a)
    inside: Bool  # (n, a): log_std was not clipped


def draw(parameters: F32, noise: F32) -> Drawn:
    """Mean | log_std (n, 2a) and standard normal noise (n, a) (Haarnoja et al. 2018a, appendix C).

    log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|))), which neither overflows nor cancels.
    """
    entries = noise.shape[1]
    raw = parameters[:, entries:]
    log_std = np.minimum(np.maximum(raw, np.float32(LOG_STD_LOW)), np.float32(LOG_STD_HIGH))
    spread = np.exp(log_std)
    spread *= noise
    unsquashed = parameters[:, :entries] + spread
    size = np.abs(unsquashed)
    terms = np.float32(0.5) * noise * noise
    terms += log_std
    terms += _HALF_LOG_2PI + 2 * _LOG_2
    terms -= np.float32(2) * (size + np.log1p(np.exp(np.float32(-2) * size)))
    return Drawn(
        actions=np.tanh(unsquashed),
        log_probability=-terms.sum(axis=1),
        spread=spread,
        inside=log_std == raw,
    )


def backward(drawn: Drawn, *, by_action: F32, by_log_probability: float) -> F32:
    """Gradient by mean | log_std (n, 2a) of a loss whose gradient is `by_action` (n, a), and one number for all log-densities."""
    weight = np.float32(by_log_probability)
    actions = drawn.actions
    by_mean = by_action * (np.float32(1) - actions * actions)
    by_mean += (np.float32(2) * weight) * actions
    by_log_std = by_mean * drawn.spread
    by_log_std -= weight
    by_log_std *= drawn.inside
    return np.concatenate([by_mean, by_log_std], axis=1)
