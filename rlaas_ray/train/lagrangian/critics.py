"""The value networks of costs: one for each, all in one flat vector, fitted by least squares with Adam.

Used by sampler.py (forward) and family.py (fitting). Shaped as the policy's own value network.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, network
from rlaas_ray.train.analytic import FlatState
from rlaas_ray.train.network import Shape, Tower


def size(shape: Shape) -> int:
    """Numbers of one cost's value network."""
    return sum(int(np.prod(dimensions)) for name, dimensions in network.parameters(shape) if _is_critic(name))


def views(flat: F32, shape: Shape, *, count: int) -> list[Tower]:
    """The networks over `flat` (count * size,)."""
    each = size(shape)
    return [_tower(flat[k * each : (k + 1) * each], shape) for k in range(count)]


def initial(shape: Shape, *, count: int, rng: np.random.Generator) -> F32:
    """Orthogonal weights, as the policy's value network starts."""
    parts = []
    for _ in range(count):
        whole = network.initial(replace(shape, free=0), rng=rng, policy_gain=1.0, log_std=0.0)
        named = network.views(whole, replace(shape, free=0))
        parts += [array.reshape(-1) for name, array in named.items() if _is_critic(name)]
    return np.concatenate(parts)


class Fit:
    """Least squares of all networks at once."""

    def __init__(self, flat: F32, *, shape: Shape, count: int) -> None:
        self.state: FlatState = analytic.fresh_state(flat)
        self._towers = views(self.state.parameters.numpy(), shape, count=count)
        self._into = views(self.state.gradient.numpy(), shape, count=count)

    def step(self, observations: F32, *, targets: F32, learning_rate: float) -> float:
        """One Adam step on mean squared errors; observations (n, d), targets (n, K). Gives the mean loss before it."""
        losses = []
        for k, (tower, into) in enumerate(zip(self._towers, self._into, strict=True)):
            kept: list[tuple[F32, F32]] = []
            error = tower.forward(observations, kept=kept)[:, 0] - targets[:, k]
            tower.backward((np.float32(2) / np.float32(len(error)) * error)[:, None], kept=kept, into=into)
            losses.append(float(np.dot(error, error) / len(error)))
        self.state.adam(learning_rate)
        return float(np.mean(losses))


def _tower(flat: F32, shape: Shape) -> Tower:
    named, offset = {}, 0
    for name, dimensions in network.parameters(shape):
        if _is_critic(name):
            length = int(np.prod(dimensions))
            named[name] = flat[offset : offset + length].reshape(dimensions)
            offset += length
    return Tower(named, tower="critic", activation=shape.activation)


def _is_critic(name: str) -> bool:
    return name.startswith("critic.")
