"""What an off-policy learner knows: an actor, its critics, their targets, Adam's moments, each one flat vector; and a batch.

Held by the engines beside it, who differ in their losses alone. Never samples, never draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import analytic
from rlaas_ray.train.actor_critic import perceptron
from rlaas_ray.train.actor_critic.perceptron import Perceptron, Shape
from rlaas_ray.train.analytic import FlatState


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Rows of one update. `discounts`: gamma^k over the k steps that a row spans, 0 where the episode terminated."""

    observations: F32  # (n, d)
    next_observations: F32  # (n, d)
    actions: Array  # (n, a) in [-1, 1], or indices (n, 1)
    rewards: F32  # (n,), sums of discounted ones over n steps
    discounts: F32  # (n,)
    weights: F32 | None = None  # (n,), of prioritised replay
    masks: Bool | None = None  # (n, m)
    next_masks: Bool | None = None

    def __len__(self) -> int:
        return int(self.rewards.shape[0])


class Net:
    """Perceptrons of one shape side by side in one flat vector, with gradient and Adam's moments."""

    def __init__(self, shape: Shape, *, copies: int, rng: np.random.Generator, final_gain: float = 1.0) -> None:
        self.shape = shape
        flat = np.concatenate([perceptron.initial(shape, rng=rng, final_gain=final_gain) for _ in range(copies)])
        self.state: FlatState = analytic.fresh_state(flat)
        self.flat: F32 = self.state.parameters.numpy()
        self.gradient: F32 = self.state.gradient.numpy()
        self.parts = cut(self.flat, shape)
        self.gradients = cut(self.gradient, shape)

    def step(self, *, learning_rate: float, gradient_clip: float | None) -> None:
        """Adam on the gradient, scaled down to the norm `gradient_clip` where it is longer."""
        if gradient_clip is not None:
            norm = float(np.sqrt(np.dot(self.gradient, self.gradient)))
            if norm > gradient_clip:
                self.gradient *= np.float32(gradient_clip / (norm + 1e-6))
        self.state.adam(learning_rate)

    def to_state(self, name: str) -> dict[str, Array]:
        """A checkpoint's arrays, copied."""
        kept = self.state.weights(updates=0)
        return {
            f"{name}.parameters": kept.parameters,
            f"{name}.first": kept.first,
            f"{name}.second": kept.second,
            f"{name}.steps": np.array([kept.adam_steps], dtype=np.int64),
        }

    def load_state(self, name: str, state: Mapping[str, Array]) -> None:
        """The inverse, in place. Raises InvalidInput."""
        found = {part: state.get(f"{name}.{part}") for part in ("parameters", "first", "second", "steps")}
        parameters, first, second, steps = found.values()
        if (
            parameters is None
            or first is None
            or second is None
            or steps is None
            or parameters.shape != self.flat.shape
        ):
            raise other_network(name, given=parameters, expected=self.flat)
        self.state.set_weights(
            analytic.Weights(
                parameters=parameters.astype(np.float32),
                first=first.astype(np.float32),
                second=second.astype(np.float32),
                adam_steps=int(steps[0]),
                updates=0,
            )
        )


class Target:
    """A copy of a Net that follows it slowly."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._tensor = torch.from_numpy(net.flat.copy())
        self.flat: F32 = self._tensor.numpy()
        self.parts = cut(self.flat, net.shape)

    def follow(self, share: float) -> None:
        """Target += share * (net - target) (Lillicrap et al. 2016)."""
        self._tensor.lerp_(self._net.state.parameters, share)

    def load(self, name: str, state: Mapping[str, Array]) -> None:
        """From a checkpoint, in place. Raises InvalidInput."""
        found = state.get(name)
        if found is None or found.shape != self.flat.shape:
            raise other_network(name, given=found, expected=self.flat)
        self.flat[:] = found


def cut(flat: F32, shape: Shape) -> list[Perceptron]:
    """The perceptrons side by side in `flat`."""
    return [Perceptron(flat[start : start + shape.size], shape) for start in range(0, flat.shape[0], shape.size)]


def other_network(name: str, *, given: Array | None, expected: F32) -> InvalidInput:
    """The error of a checkpoint whose arrays do not fit."""
    return InvalidInput(
        f"checkpoint of another network ({name})",
        given=None if given is None else given.shape,
        expected=str(expected.shape),
        cure="Resume with the spec that the run was started with.",
    )
