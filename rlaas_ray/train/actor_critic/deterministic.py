"""TD3 in NumPy (Fujimoto et al. 2018), and DDPG (Lillicrap et al. 2016) as TD3 with one critic, no smoothing and no delay.

Driven by learning.py; held against autograd before the first update (oracle.py). As in the paper the critics step first, and the
actor climbs the first critic as it then is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic.networks import Batch, Net, Target
from rlaas_ray.train.actor_critic.perceptron import Activation, Perceptron, Shape, Tape
from rlaas_ray.train.actor_critic.sac import sizes

ACTOR_FINAL_GAIN = 0.1  # an actor that starts saturated has no gradient to leave with


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the update is told."""

    observations: int  # d
    actions: int  # a, entries of an action
    hidden: tuple[int, ...]
    activation: Activation
    critics: int
    tau: float
    policy_delay: int  # updates of the critics for one of the actor and of all targets
    target_noise: float
    target_noise_clip: float
    gradient_clip: float | None


class Deterministic:
    """Parameters and their update. Actions are tanh of the actor's outputs."""

    def __init__(self, settings: Settings, *, rng: np.random.Generator) -> None:
        self.settings = settings
        wide, entries = settings.observations, settings.actions
        actor = Shape(inputs=wide, hidden=settings.hidden, outputs=entries, activation=settings.activation)
        critic = Shape(inputs=wide + entries, hidden=settings.hidden, outputs=1, activation=settings.activation)
        self.actor = Net(actor, copies=1, rng=rng, final_gain=ACTOR_FINAL_GAIN)
        self.critics = Net(critic, copies=settings.critics, rng=rng)
        self.actor_target = Target(self.actor)
        self.critic_targets = Target(self.critics)
        self.updates = 0
        self._rows = 0
        self._actor_loss = 0.0

    def update(self, batch: Batch, *, rng: np.random.Generator, learning_rate: float) -> F32:
        """One step of the critics, and every `policy_delay` of them one of all else; gives mean absolute errors (n,)."""
        settings = self.settings
        errors = self.critic_gradient(batch, noise=self.noise(len(batch), rng=rng))
        self.critics.step(learning_rate=learning_rate, gradient_clip=settings.gradient_clip)
        self.updates += 1
        if self.updates % settings.policy_delay == 0:
            self.actor_gradient(batch)
            self.actor.step(learning_rate=learning_rate, gradient_clip=settings.gradient_clip)
            self.actor_target.follow(settings.tau)
            self.critic_targets.follow(settings.tau)
        return errors

    def noise(self, rows: int, *, rng: np.random.Generator) -> F32:
        """What is added to target actions: clip(N(0, target_noise^2), -target_noise_clip, target_noise_clip), (n, a)."""
        settings = self.settings
        if settings.target_noise == 0:
            return np.zeros((rows, settings.actions), dtype=np.float32)
        noise: F32 = rng.standard_normal((rows, settings.actions), dtype=np.float32)
        noise *= np.float32(settings.target_noise)
        limit = np.float32(settings.target_noise_clip)
        np.minimum(np.maximum(noise, -limit), limit, out=noise)
        return noise

    def critic_gradient(self, batch: Batch, *, noise: F32) -> F32:
        """Of mean(w (Q - target)^2) / 2 for each critic."""
        rows, wide = len(batch), self.settings.observations
        self._make_tapes(rows)
        target = self._target(batch, noise=noise)
        tape = self._critic_tape
        tape.inputs[:, :wide] = batch.observations
        tape.inputs[:, wide:] = batch.actions
        errors = np.empty((self.settings.critics, rows), dtype=np.float32)
        share = np.float32(1 / rows) if batch.weights is None else batch.weights / np.float32(rows)
        for index, (critic, into) in enumerate(zip(self.critics.parts, self.critics.gradients, strict=True)):
            np.subtract(critic.forward(tape)[:, 0], target, out=errors[index])
            critic.backward((errors[index] * share)[:, None], tape=tape, into=into)
        self._last = (target, errors)
        return sizes(errors)

    def actor_gradient(self, batch: Batch) -> None:
        """Of -mean(Q1(s, mu(s))); no critic's parameters get anything."""
        rows, wide = len(batch), self.settings.observations
        self._make_tapes(rows)
        actions = self._act(self.actor.parts[0], batch.observations)
        tape = self._critic_tape
        tape.inputs[:, :wide] = batch.observations
        tape.inputs[:, wide:] = actions
        critic = self.critics.parts[0]
        self._actor_loss = -float(critic.forward(tape).mean())
        by_value = np.full((rows, 1), -1 / rows, dtype=np.float32)
        by_action = critic.by_inputs(by_value, tape=tape, rows=slice(rows), first=wide)
        by_action *= np.float32(1) - actions * actions
        self.actor.parts[0].backward(by_action, tape=self._actor_tape, into=self.actor.gradients[0])

    def _act(self, actor: Perceptron, observations: F32) -> F32:
        """Tanh of the actor's outputs (n, a); the tape keeps what a backward pass needs."""
        self._actor_tape.inputs[:] = observations
        return np.tanh(actor.forward(self._actor_tape))

    def _target(self, batch: Batch, *, noise: F32) -> F32:
        """R + discount * min Q'(s', clip(mu'(s') + noise, -1, 1)), (n,)."""
        wide = self.settings.observations
        actions = self._act(self.actor_target.parts[0], batch.next_observations)
        actions += noise
        tape = self._critic_tape
        tape.inputs[:, :wide] = batch.next_observations
        np.minimum(np.maximum(actions, np.float32(-1)), np.float32(1), out=tape.inputs[:, wide:])
        least = self.critic_targets.parts[0].forward(tape)[:, 0].copy()
        for critic in self.critic_targets.parts[1:]:
            np.minimum(least, critic.forward(tape)[:, 0], out=least)
        least *= batch.discounts
        least += batch.rewards
        return least

    def stats(self) -> dict[str, float]:
        """Of the last update; the actor's loss of its last one."""
        target, errors = self._last
        return {
            "critic_loss": 0.5 * float((errors * errors).mean(axis=1).sum()),
            "actor_loss": self._actor_loss,
            "q_mean": float((target + errors[0]).mean()),
            "td_error_mean": float(np.abs(errors).mean()),
        }

    def state(self) -> dict[str, Array]:
        """A copy of everything."""
        return {
            **self.actor.to_state("actor"),
            **self.critics.to_state("critics"),
            "actor.target": self.actor_target.flat.copy(),
            "critics.target": self.critic_targets.flat.copy(),
            "updates": np.array([self.updates], dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse, in place. Raises InvalidInput."""
        self.actor.load_state("actor", state)
        self.critics.load_state("critics", state)
        self.actor_target.load("actor.target", state)
        self.critic_targets.load("critics.target", state)
        self.updates = int(state["updates"][0])

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._actor_tape = Tape(self.actor.shape, rows=rows)
        self._critic_tape = Tape(self.critics.shape, rows=rows)
