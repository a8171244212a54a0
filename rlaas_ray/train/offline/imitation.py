"""Behaviour cloning and MARWIL: maximum likelihood of logged actions, plain or weighted by how well they turned out.

MARWIL (Wang et al. 2018) weighs a row by exp(beta A / c): A is its return less the value of its observation, c a running norm
of A. beta 0 is behaviour cloning: no value net, every row alike. Driven by trainer.py. Never bootstraps within an episode.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic.networks import Net
from rlaas_ray.train.actor_critic.perceptron import Tape
from rlaas_ray.train.heads import Head
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.learner import Engine, Learnt
from rlaas_ray.train.offline.policy import Policy, Widths

NORM_RATE = 0.01  # of the running mean of A^2
HEAVIEST = 100.0  # weight of one row; Kostrikov et al. 2022 clip theirs at it
VALUE_COEFFICIENT = 1.0


class Imitation(Engine):
    """A policy, and with `beta` above 0 a value net of returns."""

    def __init__(
        self,
        widths: Widths,
        *,
        head: Head,
        served: serving.Head,
        beta: float,
        gradient_clip: float | None,
        rng: np.random.Generator,
        norm: float | None = None,
        norm_rate: float = NORM_RATE,
    ) -> None:
        self.policy = Policy(widths, head=head, rng=rng)
        self.value = Net(widths.shape(outputs=1), copies=1, rng=rng)
        self._tape = Tape(self.value.shape, rows=0)
        self._beta = beta
        self._served = served
        self._clip = gradient_clip
        self._norm = norm  # running mean of A^2; None: starts at the first batch's
        self._norm_rate = norm_rate
        self._stats: dict[str, float] = {}

    def update(self, batch: Dataset, *, rng: np.random.Generator, learning_rate: float) -> None:
        self._stats = self.gradient(batch)
        self.policy.step(learning_rate=learning_rate, gradient_clip=self._clip)
        if self._beta:
            self.value.step(learning_rate=learning_rate, gradient_clip=self._clip)

    def gradient(self, batch: Dataset) -> dict[str, float]:
        """Writes the gradients of -mean(w log p) + 1/2 mean(A^2); gives the loss's parts."""
        found = self.policy.evaluate(batch.observations, actions=batch.actions, masks=batch.masks)
        weights, value_loss = self._weights(batch) if self._beta else (np.ones(len(batch), dtype=np.float32), 0.0)
        policy_loss = self.policy.gradient(found, weights=weights)
        told = {
            "policy_loss": policy_loss,
            "entropy": float(found.entropy.mean()),
            "total_loss": policy_loss + VALUE_COEFFICIENT * value_loss,
        }
        if self._beta:
            told |= {"vf_loss": value_loss, "clipped_share": float((weights >= HEAVIEST).mean())}
        return told

    def _weights(self, batch: Dataset) -> tuple[F32, float]:
        rows = len(batch)
        if self._tape.rows != 2 * rows:
            self._tape = Tape(self.value.shape, rows=2 * rows)
        self._tape.inputs[:rows] = batch.observations
        self._tape.inputs[rows:] = batch.ends[batch.tail]
        values = self.value.parts[0].forward(self._tape)[:, 0]
        advantages = batch.returns + batch.tail_discount * values[rows:] - values[:rows]
        squared = float(np.dot(advantages, advantages) / rows)
        self._norm = squared if self._norm is None else self._norm + self._norm_rate * (squared - self._norm)
        scale = np.float32(self._beta / (1e-8 + np.sqrt(self._norm)))
        weights = np.minimum(np.exp(np.minimum(scale * advantages, np.float32(80))), np.float32(HEAVIEST))
        by_value = advantages * np.float32(-VALUE_COEFFICIENT / rows)
        self.value.parts[0].backward(by_value[:, None], tape=self._tape, into=self.value.gradients[0])
        return weights, 0.5 * squared

    def stats(self) -> dict[str, float]:
        return self._stats

    def state(self) -> dict[str, Array]:
        norm = np.nan if self._norm is None else self._norm
        return {**self.policy.state(), **self.value.to_state("value"), "norm": np.array([norm])}

    def load_state(self, state: Mapping[str, Array]) -> None:
        self.policy.load_state(state)
        self.value.load_state("value", state)
        norm = float(state["norm"][0])
        self._norm = None if np.isnan(norm) else norm

    def learnt(self) -> Learnt:
        return self.policy.learnt(self._served)
