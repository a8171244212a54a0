"""SAC for continuous actions in NumPy (Haarnoja et al. 2018b): twin critics, a squashed Gaussian actor, a learnt temperature.

Driven by learning.py; held against autograd before the first update (oracle.py). All gradients of an update are taken at the same
parameters, then each net takes its step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic import squashed
from rlaas_ray.train.actor_critic.networks import Batch, Net, Target
from rlaas_ray.train.actor_critic.perceptron import Activation, Shape, Tape
from rlaas_ray.train.actor_critic.temperature import Temperature

CRITICS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What SAC's update is told, whatever the actions."""

    observations: int  # d
    actions: int  # a: entries of an action, or how many actions there are
    hidden: tuple[int, ...]
    activation: Activation
    tau: float
    target_every: int  # updates
    gradient_clip: float | None
    entropy_target: float | None  # nats; None: discrete actions decide for each batch
    alpha_initial: float
    alpha_learning_rate: float | None  # None: that of the nets
    alpha_fixed: bool


class Soft:
    """What both kinds of SAC have: nets, temperature, the steps of an update. Whoever extends it writes the gradients."""

    def __init__(self, settings: Settings, *, actor: Shape, critic: Shape, rng: np.random.Generator) -> None:
        self.settings = settings
        self.actor = Net(actor, copies=1, rng=rng)
        self.critics = Net(critic, copies=CRITICS, rng=rng)
        self.targets = Target(self.critics)
        self.temperature = Temperature(
            initial=settings.alpha_initial, target=settings.entropy_target, fixed=settings.alpha_fixed
        )
        self.updates = 0
        self._rows = 0

    def update(self, batch: Batch, *, rng: np.random.Generator, learning_rate: float) -> F32:
        """One step of everything; gives each row's mean absolute temporal-difference error (n,)."""
        settings = self.settings
        errors = self.gradient(batch, noise=self.noise(len(batch), rng=rng))
        self.actor.step(learning_rate=learning_rate, gradient_clip=settings.gradient_clip)
        self.critics.step(learning_rate=learning_rate, gradient_clip=settings.gradient_clip)
        self.temperature.step(settings.alpha_learning_rate or learning_rate)
        self.updates += 1
        if self.updates % settings.target_every == 0:
            self.targets.follow(settings.tau)
        return errors

    def noise(self, rows: int, *, rng: np.random.Generator) -> F32:
        """What `gradient` draws with."""
        raise NotImplementedError

    def gradient(self, batch: Batch, *, noise: F32) -> F32:
        """Writes all gradients, at the same parameters; gives the errors of `update`."""
        raise NotImplementedError

    def stats(self) -> dict[str, float]:
        """Of the last update."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """A copy of everything."""
        return {
            **self.actor.to_state("actor"),
            **self.critics.to_state("critics"),
            "critics.target": self.targets.flat.copy(),
            **self.temperature.to_state(),
            "updates": np.array([self.updates], dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse, in place. Raises InvalidInput."""
        self.actor.load_state("actor", state)
        self.critics.load_state("critics", state)
        self.targets.load("critics.target", state)
        self.temperature.load_state(state)
        self.updates = int(state["updates"][0])


class Continuous(Soft):
    """Actions in [-1, 1]^a."""

    def __init__(self, settings: Settings, *, rng: np.random.Generator) -> None:
        wide, entries = settings.observations, settings.actions
        super().__init__(
            settings,
            actor=shape(settings, inputs=wide, outputs=2 * entries),
            critic=shape(settings, inputs=wide + entries, outputs=1),
            rng=rng,
        )

    def noise(self, rows: int, *, rng: np.random.Generator) -> F32:
        """Standard normal (2n, a): for the observations, then for those that followed."""
        return rng.standard_normal((2 * rows, self.settings.actions), dtype=np.float32)

    def gradient(self, batch: Batch, *, noise: F32) -> F32:
        """Of the critics' and the actor's loss, and of the temperature's."""
        rows = len(batch)
        self._make_tapes(rows)
        tape = self._actor_tape
        tape.inputs[:rows] = batch.observations
        tape.inputs[rows:] = batch.next_observations
        drawn = squashed.draw(self.actor.parts[0].forward(tape), noise)
        target = self._target(batch, drawn=drawn)
        values, errors = self._critic_gradient(batch, target=target, proposed=drawn.actions[:rows])
        here = squashed.Drawn(
            actions=drawn.actions[:rows],
            log_probability=drawn.log_probability[:rows],
            spread=drawn.spread[:rows],
            inside=drawn.inside[:rows],
        )
        self._actor_gradient(here, values=values)
        self.temperature.gradient_from(-float(here.log_probability.mean()))
        self._last = (values, errors, here.log_probability)
        return sizes(errors)

    def _target(self, batch: Batch, *, drawn: squashed.Drawn) -> F32:
        """R + discount * (min Q'(s', a') - alpha log p(a' | s')), (n,)."""
        rows, wide = len(batch), self.settings.observations
        tape = self._target_tape
        tape.inputs[:, :wide] = batch.next_observations
        tape.inputs[:, wide:] = drawn.actions[rows:]
        least = self.targets.parts[0].forward(tape)[:, 0].copy()
        for critic in self.targets.parts[1:]:
            np.minimum(least, critic.forward(tape)[:, 0], out=least)
        least -= np.float32(self.temperature.alpha) * drawn.log_probability[rows:]
        least *= batch.discounts
        least += batch.rewards
        return least

    def _critic_gradient(self, batch: Batch, *, target: F32, proposed: F32) -> tuple[F32, F32]:
        """Of mean(w (Q - target)^2) / 2 for each critic; gives Q(s, proposed) and the errors, each (critics, n)."""
        rows, wide = len(batch), self.settings.observations
        inputs = self._critic_tapes[0].inputs  # that of all critics
        inputs[:rows, :wide] = batch.observations
        inputs[rows:, :wide] = batch.observations
        inputs[:rows, wide:] = batch.actions
        inputs[rows:, wide:] = proposed
        values = np.empty((CRITICS, rows), dtype=np.float32)
        errors = np.empty((CRITICS, rows), dtype=np.float32)
        share = np.float32(1 / rows) if batch.weights is None else batch.weights / np.float32(rows)
        for index, (critic, into) in enumerate(zip(self.critics.parts, self.critics.gradients, strict=True)):
            tape = self._critic_tapes[index]
            found = critic.forward(tape)[:, 0]
            values[index] = found[rows:]
            np.subtract(found[:rows], target, out=errors[index])
            critic.backward((errors[index] * share)[:, None], tape=tape, into=into)
        return values, errors

    def _actor_gradient(self, drawn: squashed.Drawn, *, values: F32) -> None:
        """Of mean(alpha log p - min Q), through the lesser critic of each row alone; no critic's parameters get anything."""
        rows, wide = values.shape[1], self.settings.observations
        lesser = values.argmin(axis=0)
        by_action = np.empty_like(drawn.actions)
        for index, critic in enumerate(self.critics.parts):
            chosen = np.flatnonzero(lesser == index)
            by_value = np.full((len(chosen), 1), -1 / rows, dtype=np.float32)
            by_action[chosen] = critic.by_inputs(
                by_value, tape=self._critic_tapes[index], rows=chosen + rows, first=wide
            )
        by_output = squashed.backward(drawn, by_action=by_action, by_log_probability=self.temperature.alpha / rows)
        self.actor.parts[0].backward(by_output, tape=self._actor_tape, into=self.actor.gradients[0])

    def stats(self) -> dict[str, float]:
        """Of the last update."""
        values, errors, log_probability = self._last
        least, alpha = values.min(axis=0), self.temperature.alpha_before
        return {
            "critic_loss": 0.5 * float((errors * errors).mean(axis=1).sum()),
            "actor_loss": float((alpha * log_probability - least).mean()),
            "alpha": alpha,
            "entropy": -float(log_probability.mean()),
            "q_mean": float(least.mean()),
            "td_error_mean": float(np.abs(errors).mean()),
        }

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._actor_tape = Tape(self.actor.shape, rows=2 * rows)
        self._target_tape = Tape(self.critics.shape, rows=rows)
        self._critic_tapes = [Tape(self.critics.shape, rows=2 * rows) for _ in range(CRITICS)]
        for tape in self._critic_tapes[1:]:
            tape.inputs = self._critic_tapes[0].inputs


def sizes(errors: F32) -> F32:
    """Mean absolute errors over critics: (critics, n) -> (n,)."""
    found: F32 = np.abs(errors).mean(axis=0)
    return found


def shape(settings: Settings, *, inputs: int, outputs: int) -> Shape:
    """A net between these widths."""
    return Shape(inputs=inputs, hidden=settings.hidden, outputs=outputs, activation=settings.activation)
