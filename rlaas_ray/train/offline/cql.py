"""Conservative Q-learning for discrete actions (Kumar et al. 2020): a Q net that is pushed down where the data is silent.

Loss: mean (Q(s, a) - y)^2 + w mean(log sum exp Q(s, .) - Q(s, a)), y by double Q-learning. Driven by trainer.py; cql_box.py is
the same for continuous actions. The policy takes the action of the greatest Q.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic.networks import Net, Target
from rlaas_ray.train.actor_critic.perceptron import Tape
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.learner import Engine, Learnt
from rlaas_ray.train.offline.policy import Widths

CONSERVATIVE_WEIGHT = 1.0


class DiscreteCql(Engine):
    """A Q net and its slow copy."""

    def __init__(
        self,
        widths: Widths,
        *,
        actions: int,
        gamma: float,
        conservative_weight: float,
        tau: float,
        gradient_clip: float | None,
        rng: np.random.Generator,
    ) -> None:
        self._gamma = np.float32(gamma)
        self._weight = np.float32(conservative_weight)
        self._tau = tau
        self._clip = gradient_clip
        self._actions = actions
        self.critic = Net(widths.shape(outputs=actions), copies=1, rng=rng)
        self.target = Target(self.critic)
        self._rows = 0
        self._stats: dict[str, float] = {}

    def update(self, batch: Dataset, *, rng: np.random.Generator, learning_rate: float) -> None:
        self._stats = self.gradient(batch)
        self.critic.step(learning_rate=learning_rate, gradient_clip=self._clip)
        self.target.follow(self._tau)

    def gradient(self, batch: Dataset) -> dict[str, float]:
        """Writes the loss's gradient; gives its parts."""
        rows = len(batch)
        self._make_tapes(rows)
        self._tape.inputs[:rows] = batch.observations
        self._tape.inputs[rows:] = batch.following
        values = self.critic.parts[0].forward(self._tape)
        self._target_tape.inputs[:] = batch.following
        later = self.target.parts[0].forward(self._target_tape)
        best = values[rows:].argmax(axis=1)[:, None]
        bootstrap = np.take_along_axis(later, best, axis=1)[:, 0]
        target = batch.rewards + self._gamma * ~batch.terminated * bootstrap
        here = values[:rows]
        taken = np.take_along_axis(here, batch.chosen, axis=1)[:, 0]
        errors = taken - target
        soft, gap = soft_maximum(here, taken=taken)
        by_output = self._weight / np.float32(rows) * soft
        own = by_output[np.arange(rows), batch.chosen[:, 0]]
        own += (np.float32(2) * errors - self._weight) / np.float32(rows)
        by_output[np.arange(rows), batch.chosen[:, 0]] = own
        self.critic.parts[0].backward(by_output, tape=self._tape, into=self.critic.gradients[0])
        squared = float(np.dot(errors, errors) / rows)
        return {
            "critic_loss": squared + float(self._weight) * gap,
            "total_loss": squared + float(self._weight) * gap,
            "conservative_gap": gap,
            "td_error_mean": float(np.abs(errors).mean()),
            "q_mean": float(taken.mean()),
        }

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._tape = Tape(self.critic.shape, rows=2 * rows)
        self._target_tape = Tape(self.critic.shape, rows=rows)

    def stats(self) -> dict[str, float]:
        return self._stats

    def state(self) -> dict[str, Array]:
        return {**self.critic.to_state("critic"), "target": self.target.flat.copy()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        self.critic.load_state("critic", state)
        self.target.load("target", state)

    def learnt(self) -> Learnt:
        return Learnt(net=self.critic.parts[0], head=serving.Categorical(n=self._actions), serving="greedy")


def soft_maximum(values: F32, *, taken: F32) -> tuple[F32, float]:
    """(softmax over the last axis of values (n, m), mean of log sum exp - taken (n,))."""
    highest = values.max(axis=1, keepdims=True)
    mass = np.exp(values - highest)
    total = mass.sum(axis=1, keepdims=True)
    gap = float((highest[:, 0] + np.log(total[:, 0]) - taken).mean())
    return mass / total, gap
