"""DQN's update in NumPy: targets, exact gradients of the Huber loss or of C51's cross entropy, then Adam; flat memory throughout.

Held by learning.py. tests/unit/train/test_dqn_bellman.py holds every combination of options against autograd, tests/ray to RLlib.
Huber as in Mnih et al. 2015 (error clipped to [-1, 1]); double as in van Hasselt et al. 2016; C51 as in Bellemare et al. 2017.

n rows, d inputs, A actions, K atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, I64, Bool
from rlaas_ray.train.analytic import FlatState
from rlaas_ray.train.dqn import network
from rlaas_ray.train.dqn.network import QNetwork, Shape

_FORBIDDEN = np.float32(-1e30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What is learnt from a batch, beside the network's shape."""

    double: bool
    v_min: float  # of C51's atoms
    v_max: float
    gradient_clip: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Transitions, observations already normalised."""

    observations: F32  # (n, d)
    actions: I64  # (n,)
    rewards: F32  # (n,), of n steps
    discounts: F32  # (n,), gamma^k, 0 after an end
    next_observations: F32  # (n, d)
    next_masks: Bool | None  # (n, A), true where an action is allowed
    weights: F32 | None  # (n,), of importance; None: 1

    def __len__(self) -> int:
        return int(self.rewards.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What one update found."""

    errors: F32  # (n,), the size of the TD error; C51: the cross entropy, as Rainbow prioritises
    loss: float
    q_mean: float  # of the actions taken
    gradient_norm: float


class Engine:
    """Online and target network, and the update of the one towards the other."""

    def __init__(self, state: FlatState, *, target: F32, shape: Shape, loss: Loss) -> None:
        self._state = state
        self._shape = shape
        self._loss = loss
        self._flat: F32 = state.parameters.numpy()
        self.gradient_flat: F32 = state.gradient.numpy()
        self._online = QNetwork(self._flat, shape)
        self._into = QNetwork(self.gradient_flat, shape)
        self.target_flat = target
        self._target = QNetwork(target, shape)
        self._atoms = network.support(shape, v_min=loss.v_min, v_max=loss.v_max)

    @property
    def online(self) -> QNetwork:
        """The network that acts."""
        return self._online

    def refresh(self) -> None:
        """After parameters were loaded into flat memory."""
        self._online.refresh()
        self._target.refresh()

    def move_target(self, share: float) -> None:
        """Move the target by `share` of the way to the online network; 1: a copy."""
        if share == 1.0:
            self.target_flat[:] = self._flat
        else:
            self.target_flat += np.float32(share) * (self._flat - self.target_flat)
        self._target.refresh()

    def update(self, batch: Batch, *, learning_rate: float) -> Step:
        """One step of Adam on `batch`."""
        found = self.gradient(batch)
        self._state.adam(learning_rate)
        self._online.refresh()
        return found

    def gradient(self, batch: Batch) -> Step:
        """Writes the gradient of the mean weighted loss, clipped by its norm, into the state."""
        targets = self.targets(batch)
        kept: list[tuple[F32, F32]] = []
        outputs = self._online.outputs(batch.observations, kept=kept)
        scale = np.float32(1 / len(batch)) if batch.weights is None else batch.weights / np.float32(len(batch))
        if self._shape.atoms == 1:
            flowing, errors, losses, q_mean = _huber(outputs, targets=targets, actions=batch.actions, scale=scale)
        else:
            flowing, errors, losses, q_mean = self._cross_entropy(
                outputs, targets=targets, actions=batch.actions, scale=scale
            )
        self._online.tower.backward(flowing, kept=kept, into=self._into.tower)
        self._into.pull_back()
        return Step(errors=errors, loss=float(losses.sum()), q_mean=q_mean, gradient_norm=self._clip())

    def targets(self, batch: Batch) -> F32:
        """What the taken actions' values (n,), or distributions (n, K), should have been."""
        following = self._target.outputs(batch.next_observations)
        best = self._best(batch, following=following)
        rows = np.arange(len(batch))
        if self._shape.atoms == 1:
            return batch.rewards + batch.discounts * following[rows, best]
        logits = following.reshape(len(batch), self._shape.actions, self._shape.atoms)[rows, best]
        return project(
            softmax(logits), rewards=batch.rewards, discounts=batch.discounts, v_min=self._loss.v_min, atoms=self._atoms
        )

    def _best(self, batch: Batch, *, following: F32) -> I64:
        """The action (n,) that the target bootstraps from: the online network's choice if double, else the target's own."""
        outputs = self._online.outputs(batch.next_observations) if self._loss.double else following
        q = expected(outputs, shape=self._shape, atoms=self._atoms)
        if batch.next_masks is not None:
            q = np.where(batch.next_masks, q, _FORBIDDEN)
        return np.asarray(q.argmax(axis=1), dtype=np.int64)

    def _cross_entropy(
        self, outputs: F32, *, targets: F32, actions: I64, scale: F32 | np.float32
    ) -> tuple[F32, F32, F32, float]:
        rows = np.arange(len(outputs))
        logits = outputs.reshape(len(outputs), self._shape.actions, self._shape.atoms)
        taken = logits[rows, actions]
        taken -= taken.max(axis=1, keepdims=True)
        exponential = np.exp(taken)
        total = exponential.sum(axis=1, keepdims=True)
        probabilities = exponential / total
        entropy: F32 = -np.einsum("nk,nk->n", targets, taken - np.log(total))
        flowing = np.zeros_like(logits)
        flowing[rows, actions] = (probabilities - targets) * np.reshape(scale, (-1, 1))
        return flowing.reshape(outputs.shape), entropy, scale * entropy, float((probabilities @ self._atoms).mean())

    def _clip(self) -> float:
        """Scales the gradient to the loss's norm if it is longer; gives the norm before."""
        norm = float(np.sqrt(np.dot(self.gradient_flat, self.gradient_flat)))
        limit = self._loss.gradient_clip
        if limit is not None and norm > limit:
            self.gradient_flat *= np.float32(limit / (norm + 1e-6))
        return norm


def _huber(outputs: F32, *, targets: F32, actions: I64, scale: F32 | np.float32) -> tuple[F32, F32, F32, float]:
    """(d loss / d outputs, |TD error|, weighted losses, mean Q of the actions taken); the loss turns linear at 1."""
    rows = np.arange(len(outputs))
    taken = outputs[rows, actions]
    error = taken - targets
    size = np.abs(error)
    bounded = np.minimum(size, np.float32(1))
    flowing = np.zeros_like(outputs)
    flowing[rows, actions] = np.copysign(bounded, error) * scale
    losses: F32 = scale * bounded * (size - np.float32(0.5) * bounded)
    return flowing, size, losses, float(taken.mean())


def expected(outputs: F32, *, shape: Shape, atoms: F32) -> F32:
    """The network's outputs (n, A * K) -> expected values (n, A)."""
    if shape.atoms == 1:
        return outputs
    found: F32 = softmax(outputs.reshape(-1, shape.actions, shape.atoms)) @ atoms
    return found


def softmax(logits: F32) -> F32:
    """Over the last axis."""
    found: F32 = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found /= found.sum(axis=-1, keepdims=True)
    return found


def project(probabilities: F32, *, rewards: F32, discounts: F32, v_min: float, atoms: F32) -> F32:
    """The distribution of reward + discount * Z on the atoms of Z (n, K): each moved atom is shared by its two neighbours."""
    rows, count = probabilities.shape
    spacing = (float(atoms[-1]) - v_min) / (count - 1)
    moved = np.clip(rewards[:, None] + discounts[:, None] * atoms, atoms[0], atoms[-1])
    place = (moved - np.float32(v_min)) / np.float32(spacing)
    lower = np.minimum(place.astype(np.int64), count - 2)
    share = place - lower
    first = lower + (np.arange(rows) * count)[:, None]
    index = np.concatenate([first.ravel(), first.ravel() + 1])
    mass = np.concatenate([(probabilities * (1 - share)).ravel(), (probabilities * share).ravel()])
    return np.bincount(index, weights=mass, minlength=rows * count).reshape(rows, count).astype(np.float32)
