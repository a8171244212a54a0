"""SAC for discrete actions in NumPy (Christodoulou 2019): expectations over all actions instead of draws; masks.

Driven by learning.py; held against autograd before the first update (oracle.py). Forbidden actions have probability 0 and get
no gradient.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F32, Bool
from rlaas_ray.train import heads
from rlaas_ray.train.actor_critic.networks import Batch
from rlaas_ray.train.actor_critic.perceptron import Tape
from rlaas_ray.train.actor_critic.sac import CRITICS, Settings, Soft, shape, sizes

# Of the greatest entropy, where no target is named. The paper's 0.98 leaves a good policy no room: on CartPole-v1 alpha then grew
# without end (150,000 after 8,000 updates), and the values with it.
ENTROPY_SHARE = 0.4


class Discrete(Soft):
    """One of n actions."""

    def __init__(self, settings: Settings, *, rng: np.random.Generator) -> None:
        both = shape(settings, inputs=settings.observations, outputs=settings.actions)
        super().__init__(settings, actor=both, critic=both, rng=rng)

    def noise(self, rows: int, *, rng: np.random.Generator) -> F32:
        """None is needed: nothing is drawn."""
        return np.zeros((0, 0), dtype=np.float32)

    def gradient(self, batch: Batch, *, noise: F32) -> F32:
        """Of the critics' and the actor's loss, and of the temperature's."""
        rows, alpha = len(batch), np.float32(self.temperature.alpha)
        self._make_tapes(rows)
        tape = self._actor_tape
        tape.inputs[:rows] = batch.observations
        tape.inputs[rows:] = batch.next_observations
        mass, logs = distribution(self.actor.parts[0].forward(tape), masks=_both(batch))
        target = self._target(batch, mass=mass[rows:], logs=logs[rows:])
        values, errors = self._critic_gradient(batch, target=target)
        # L = mean(sum_j p_j f_j), f = alpha log p - min Q; dL/dlogit_j = p_j (f_j - sum_k p_k f_k) / n
        advantage = alpha * logs[:rows] - values
        here = mass[:rows]
        mean = np.einsum("nm,nm->n", here, advantage)
        by_logits = here * (advantage - mean[:, None])
        by_logits /= np.float32(rows)
        self.actor.parts[0].backward(by_logits, tape=tape, into=self.actor.gradients[0])
        entropy = -np.einsum("nm,nm->n", here, logs[:rows])
        self.temperature.gradient_from(float(entropy.mean()), target=self._entropy_target(batch))
        self._last = (
            float(mean.mean()),
            errors,
            float(entropy.mean()),
            float(np.einsum("nm,nm->", here, values)) / rows,
        )
        return sizes(errors)

    def _entropy_target(self, batch: Batch) -> float:
        if self.temperature.target is not None:
            return self.temperature.target
        if batch.masks is None:
            return ENTROPY_SHARE * float(np.log(self.settings.actions))
        return ENTROPY_SHARE * float(np.log(batch.masks.sum(axis=1)).mean())

    def _target(self, batch: Batch, *, mass: F32, logs: F32) -> F32:
        """R + discount * sum_a p(a | s') (min Q'(s', a) - alpha log p(a | s')), (n,)."""
        tape = self._target_tape
        tape.inputs[:] = batch.next_observations
        least = self.targets.parts[0].forward(tape).copy()
        for critic in self.targets.parts[1:]:
            np.minimum(least, critic.forward(tape), out=least)
        least -= np.float32(self.temperature.alpha) * logs
        found: F32 = np.einsum("nm,nm->n", mass, least)
        found *= batch.discounts
        found += batch.rewards
        return found

    def _critic_gradient(self, batch: Batch, *, target: F32) -> tuple[F32, F32]:
        """Of mean(w (Q - target)^2) / 2 for each critic; gives min Q (n, m) and the errors (critics, n)."""
        rows = len(batch)
        index, chosen = np.arange(rows), batch.actions[:, 0]
        errors = np.empty((CRITICS, rows), dtype=np.float32)
        least: F32 | None = None
        share = np.float32(1 / rows) if batch.weights is None else batch.weights / np.float32(rows)
        tape = self._critic_tape
        tape.inputs[:] = batch.observations
        for k, (critic, into) in enumerate(zip(self.critics.parts, self.critics.gradients, strict=True)):
            found = critic.forward(tape)
            least = found.copy() if least is None else np.minimum(least, found)
            np.subtract(found[index, chosen], target, out=errors[k])
            by_value = np.zeros_like(found)
            by_value[index, chosen] = errors[k] * share
            critic.backward(by_value, tape=tape, into=into)
        assert least is not None
        return least, errors

    def stats(self) -> dict[str, float]:
        """Of the last update."""
        actor_loss, errors, entropy, value = self._last
        return {
            "critic_loss": 0.5 * float((errors * errors).mean(axis=1).sum()),
            "actor_loss": actor_loss,
            "alpha": self.temperature.alpha_before,
            "entropy": entropy,
            "q_mean": value,
            "td_error_mean": float(np.abs(errors).mean()),
        }

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._actor_tape = Tape(self.actor.shape, rows=2 * rows)
        self._target_tape = Tape(self.critics.shape, rows=rows)
        self._critic_tape = Tape(self.critics.shape, rows=rows)


def distribution(logits: F32, *, masks: Bool | None) -> tuple[F32, F32]:
    """Probabilities and their logarithms (n, m). Of a forbidden one they are 0 and far below 0: the product is 0."""
    shifted = heads.masked(logits, masks)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    mass = np.exp(shifted)
    total = mass.sum(axis=1, keepdims=True)
    mass /= total
    return mass, shifted - np.log(total)


def _both(batch: Batch) -> Bool | None:
    """Masks (2n, m) of the observations, then of those that followed."""
    if batch.masks is None or batch.next_masks is None:
        return None
    return np.concatenate([batch.masks, batch.next_masks])
