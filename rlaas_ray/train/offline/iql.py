"""Implicit Q-learning (Kostrikov et al. 2022): no action that was not logged is ever asked for its value.

V fits an upper expectile of Q over logged actions, Q fits r + gamma V, the policy imitates logged actions weighted by
exp(beta (Q - V)). Driven by trainer.py. All gradients of an update are taken at the same parameters, then each net steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic.networks import Net, Target
from rlaas_ray.train.actor_critic.perceptron import Perceptron, Tape
from rlaas_ray.train.heads import Head
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.learner import Engine, Learnt
from rlaas_ray.train.offline.policy import Policy, Widths

CRITICS = 2
HEAVIEST = 100.0  # weight of one row, as in the paper


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """IQL's own numbers."""

    gamma: float
    expectile: float
    temperature: float  # beta of exp(beta A)
    tau: float
    gradient_clip: float | None


class Iql(Engine):
    """A policy, a value net, twin critics and their slow copies."""

    def __init__(
        self, widths: Widths, *, head: Head, served: serving.Head, settings: Settings, rng: np.random.Generator
    ) -> None:
        self._settings = settings
        self._served = served
        self._entries = head.width if head.gaussian else 0  # of the action, as inputs of a critic
        self.policy = Policy(widths, head=head, rng=rng)
        self.value = Net(widths.shape(outputs=1), copies=1, rng=rng)
        outputs = 1 if head.gaussian else head.size
        self.critics = Net(widths.shape(outputs=outputs, more=self._entries), copies=CRITICS, rng=rng)
        self.targets = Target(self.critics)
        self._rows = 0
        self._stats: dict[str, float] = {}

    def update(self, batch: Dataset, *, rng: np.random.Generator, learning_rate: float) -> None:
        self._stats = self.gradient(batch)
        clip = self._settings.gradient_clip
        self.policy.step(learning_rate=learning_rate, gradient_clip=clip)
        self.value.step(learning_rate=learning_rate, gradient_clip=clip)
        self.critics.step(learning_rate=learning_rate, gradient_clip=clip)
        self.targets.follow(self._settings.tau)

    def gradient(self, batch: Dataset) -> dict[str, float]:
        """Writes the gradients of all three losses; gives them."""
        rows = len(batch)
        self._make_tapes(rows)
        self._value_tape.inputs[:rows] = batch.observations
        self._value_tape.inputs[rows:] = batch.following
        values = self.value.parts[0].forward(self._value_tape)[:, 0]
        judged = np.minimum(*(self._of_action(critic, batch) for critic in self.targets.parts))
        advantages = judged - values[:rows]
        target = batch.rewards + np.float32(self._settings.gamma) * ~batch.terminated * values[rows:]
        side = expectile_weights(advantages, expectile=self._settings.expectile)
        value_loss = float(np.dot(side * advantages, advantages) / rows)
        by_value = np.float32(-2 / rows) * side * advantages
        self.value.parts[0].backward(by_value[:, None], tape=self._value_tape, into=self.value.gradients[0])
        critic_loss, error = self._critic_gradient(batch, target=target)
        found = self.policy.evaluate(batch.observations, actions=batch.actions, masks=batch.masks)
        exponent = np.minimum(np.float32(self._settings.temperature) * advantages, np.float32(80))
        weights = np.minimum(np.exp(exponent), np.float32(HEAVIEST))
        actor_loss = self.policy.gradient(found, weights=weights)
        return {
            "actor_loss": actor_loss,
            "critic_loss": critic_loss,
            "vf_loss": value_loss,
            "total_loss": actor_loss + critic_loss + value_loss,
            "td_error_mean": error,
            "q_mean": float(judged.mean()),
            "entropy": float(found.entropy.mean()),
            "clipped_share": float((weights >= HEAVIEST).mean()),
        }

    def _critic_gradient(self, batch: Dataset, *, target: F32) -> tuple[float, float]:
        """Of sum over critics of 1/2 mean((Q - target)^2); gives that loss and the mean |error|."""
        rows = len(batch)
        loss = absolute = 0.0
        for critic, into in zip(self.critics.parts, self.critics.gradients, strict=True):
            errors = self._of_action(critic, batch) - target
            by_value = (errors / np.float32(rows))[:, None]
            if not self._entries:
                by_output = np.zeros_like(self._critic_tape.outputs)
                np.put_along_axis(by_output, batch.chosen, by_value, axis=1)
                by_value = by_output
            critic.backward(by_value, tape=self._critic_tape, into=into)
            loss += 0.5 * float(np.dot(errors, errors) / rows)
            absolute += float(np.abs(errors).mean()) / CRITICS
        return loss, absolute

    def _of_action(self, critic: Perceptron, batch: Dataset) -> F32:
        """Q of the logged actions (n,)."""
        tape = self._critic_tape
        tape.inputs[:, : batch.observations.shape[1]] = batch.observations
        if self._entries:
            tape.inputs[:, batch.observations.shape[1] :] = batch.actions
            return critic.forward(tape)[:, 0].copy()
        found: F32 = np.take_along_axis(critic.forward(tape), batch.chosen, axis=1)[:, 0]
        return found

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._value_tape = Tape(self.value.shape, rows=2 * rows)
        self._critic_tape = Tape(self.critics.shape, rows=rows)

    def stats(self) -> dict[str, float]:
        return self._stats

    def state(self) -> dict[str, Array]:
        return {
            **self.policy.state(),
            **self.value.to_state("value"),
            **self.critics.to_state("critics"),
            "targets": self.targets.flat.copy(),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        self.policy.load_state(state)
        self.value.load_state("value", state)
        self.critics.load_state("critics", state)
        self.targets.load("targets", state)

    def learnt(self) -> Learnt:
        return self.policy.learnt(self._served)


def expectile_weights(errors: F32, *, expectile: float) -> F32:
    """|expectile - 1(error < 0)| of errors (n,): their weights in the asymmetric squared loss (Newey & Powell 1987)."""
    return np.where(errors < 0, np.float32(1 - expectile), np.float32(expectile))
