"""How SAC, TD3 and DDPG act while they learn: by draws from the policy, or by its action with Gaussian noise.

Held by replay/collector.py. Acts by the parameters of each request; never learns.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train.actor_critic import squashed
from rlaas_ray.train.actor_critic.discrete import distribution
from rlaas_ray.train.actor_critic.perceptron import Perceptron, Shape, Tape
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.replay.collector import Explorer


class _Acting(Explorer):
    """The actor of the request, and room for the rows that it sees."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._tape: Tape | None = None

    def begin(self, request: Request) -> None:
        """Act by the request's parameters from now on."""
        self._actor = Perceptron(request.parameters, self._shape)

    def outputs(self, observations: F32) -> F32:
        """(B, d) -> (B, k), good until the next call."""
        if self._tape is None or self._tape.rows != len(observations):
            self._tape = Tape(self._shape, rows=len(observations))
        self._tape.inputs[:] = observations
        return self._actor.forward(self._tape)


class _Boxed(_Acting):
    """Actions in [-1, 1]^a."""

    discrete = False

    def __init__(self, shape: Shape, *, entries: int) -> None:
        super().__init__(shape)
        self.entries = entries

    def random(self, rows: int, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """(rows, a), uniform."""
        return rng.random((rows, self.entries), dtype=np.float32) * np.float32(2) - np.float32(1)


class Squashed(_Boxed):
    """SAC's continuous policy."""

    def act(self, observations: F32, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """(B, d) -> (B, a), drawn."""
        noise = rng.standard_normal((len(observations), self.entries), dtype=np.float32)
        return squashed.draw(self.outputs(observations), noise).actions


class Noisy(_Boxed):
    """TD3's and DDPG's policy with Gaussian noise, clipped to [-1, 1] (Fujimoto et al. 2018)."""

    def __init__(self, shape: Shape, *, entries: int, deviation: float) -> None:
        super().__init__(shape, entries=entries)
        self._deviation = np.float32(deviation)

    def act(self, observations: F32, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """(B, d) -> (B, a)."""
        noise: F32 = rng.standard_normal((len(observations), self.entries), dtype=np.float32)
        noise *= self._deviation
        noise += np.tanh(self.outputs(observations))
        np.minimum(np.maximum(noise, np.float32(-1)), np.float32(1), out=noise)
        return noise


class Choosing(_Acting):
    """SAC's discrete policy."""

    discrete = True
    entries = 1

    def act(self, observations: F32, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """(B, d) -> (B, 1), drawn; never a forbidden action."""
        mass, _ = distribution(self.outputs(observations), masks=masks)
        return chosen(mass, rng=rng)

    def random(self, rows: int, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """(rows, 1), uniform over what is allowed."""
        if masks is None:
            return rng.integers(self._shape.outputs, size=(rows, 1))
        return chosen(masks.astype(np.float32), rng=rng)


def chosen(mass: F32, *, rng: np.random.Generator) -> Array:
    """Indices (n, 1) by the inverse of the cumulative mass (n, m), which need not sum to one; never one without mass."""
    running = mass.astype(np.float64).cumsum(axis=1)
    drawn = rng.random((len(mass), 1)) * running[:, -1:]
    found: Array = (running <= drawn).sum(axis=1, keepdims=True)
    return found
