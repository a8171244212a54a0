"""Conservative Q-learning for continuous actions: CQL(H) on the losses of SAC (Kumar et al. 2020, appendix F).

Loss of a critic: mean (Q(s, a) - y)^2 + w mean(log sum_j exp(Q(s, a_j) - log p(a_j)) - Q(s, a)), a_j drawn uniformly, from the
policy at s and from the policy at s'. Driven by trainer.py. The soft maximum is taken in NumPy; its gradient is a softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic import squashed
from rlaas_ray.train.actor_critic.networks import Net, Target
from rlaas_ray.train.actor_critic.perceptron import Tape
from rlaas_ray.train.offline import cql
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.learner import Engine, Learnt
from rlaas_ray.train.offline.policy import Widths

CRITICS = 2
ALPHA = 0.01  # weight of the entropy; rewards are scaled: a larger one would drown them
CONSERVATIVE_WEIGHT = (
    0.01  # 5 where returns spread over hundreds (Kumar et al. 2020), and ours are scaled to spread over 1
)
SOURCES = 3  # of sampled actions: uniform, the policy at s, the policy at s'
_LOG_UNIFORM = float(np.log(0.5))  # density of one entry, uniform in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """CQL's own numbers."""

    entries: int  # a
    gamma: float
    conservative_weight: float
    sampled_actions: int  # K, of each source
    tau: float
    gradient_clip: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proposals:
    """What the policy would do: one draw at s to learn by, one at s' to bootstrap from, and 3 K at s to hold down."""

    here: squashed.Drawn
    later: F32  # (n, a)
    sampled: F32  # (3 K n, a), draw by draw
    log_densities: F32  # (3 K, n)


class BoxCql(Engine):
    """A squashed Gaussian actor, twin critics and their slow copies.

    SAC's temperature is held at `ALPHA`: one that is learnt grows where the data is narrow, and drives the actor out of it.
    """

    def __init__(self, widths: Widths, *, settings: Settings, rng: np.random.Generator) -> None:
        self._settings = settings
        entries = settings.entries
        self.actor = Net(widths.shape(outputs=2 * entries), copies=1, rng=rng)
        self.critics = Net(widths.shape(outputs=1, more=entries), copies=CRITICS, rng=rng)
        self.targets = Target(self.critics)
        self._rows = 0
        self._stats: dict[str, float] = {}

    def update(self, batch: Dataset, *, rng: np.random.Generator, learning_rate: float) -> None:
        self._stats = self.gradient(batch, noise=self.noise(len(batch), rng=rng))
        clip = self._settings.gradient_clip
        self.actor.step(learning_rate=learning_rate, gradient_clip=clip)
        self.critics.step(learning_rate=learning_rate, gradient_clip=clip)
        self.targets.follow(self._settings.tau)

    def noise(self, rows: int, *, rng: np.random.Generator) -> tuple[F32, F32]:
        """What `gradient` takes: normal (2 + 2 K, n, a) and uniform in [-1, 1] (K n, a)."""
        entries, count = self._settings.entries, self._settings.sampled_actions
        normal = rng.standard_normal((2 + 2 * count, rows, entries), dtype=np.float32)
        uniform = rng.random((count * rows, entries), dtype=np.float32) * np.float32(2) - np.float32(1)
        return normal, uniform

    def gradient(self, batch: Dataset, *, noise: tuple[F32, F32]) -> dict[str, float]:
        """Writes the gradients of all losses; gives their parts."""
        self._make_tapes(len(batch))
        proposals = self._propose(batch, noise=noise)
        target = batch.rewards + np.float32(self._settings.gamma) * ~batch.terminated * self._judge(batch, proposals)
        told, values = self._critic_gradient(batch, target=target, proposals=proposals)
        told["actor_loss"] = self._actor_gradient(proposals.here, values=values)
        return {**told, "entropy": -float(proposals.here.log_probability.mean()), "alpha": ALPHA}

    def _propose(self, batch: Dataset, *, noise: tuple[F32, F32]) -> Proposals:
        rows, count = len(batch), self._settings.sampled_actions
        normal, uniform = noise
        tape = self._actor_tape
        tape.inputs[:rows] = batch.observations
        tape.inputs[rows:] = batch.following
        parameters = self.actor.parts[0].forward(tape)
        here = squashed.draw(parameters[:rows], normal[0])
        later = squashed.draw(parameters[rows:], normal[1])
        entries = self._settings.entries
        many = [
            squashed.draw(np.tile(parameters[part], (count, 1)), normal[first : first + count].reshape(-1, entries))
            for part, first in ((slice(rows), 2), (slice(rows, 2 * rows), 2 + count))
        ]
        flat = np.full(count * rows, _LOG_UNIFORM * entries, dtype=np.float32)
        return Proposals(
            here=here,
            later=later.actions,
            sampled=np.concatenate([uniform, *(drawn.actions for drawn in many)]),
            log_densities=np.concatenate([flat, *(drawn.log_probability for drawn in many)]).reshape(-1, rows),
        )

    def _judge(self, batch: Dataset, proposals: Proposals) -> F32:
        """Min Q' of the draw at s' (n,); without entropy, as Kumar et al. back up."""
        tape, wide = self._target_tape, batch.observations.shape[1]
        tape.inputs[:, :wide] = batch.following
        tape.inputs[:, wide:] = proposals.later
        return np.minimum(*(critic.forward(tape)[:, 0].copy() for critic in self.targets.parts))

    def _critic_gradient(self, batch: Dataset, *, target: F32, proposals: Proposals) -> tuple[dict[str, float], F32]:
        """Of both critics' losses; gives their parts and Q of the draw to learn by (critics, n)."""
        rows, wide = len(batch), batch.observations.shape[1]
        draws = SOURCES * self._settings.sampled_actions
        inputs = self._critic_tapes[0].inputs  # that of all critics: logged | sampled | to learn by
        inputs[:, :wide] = np.tile(batch.observations, (draws + 2, 1))
        inputs[:rows, wide:] = batch.actions
        inputs[rows : (draws + 1) * rows, wide:] = proposals.sampled
        inputs[(draws + 1) * rows :, wide:] = proposals.here.actions
        weight = np.float32(self._settings.conservative_weight)
        values = np.empty((CRITICS, rows), dtype=np.float32)
        squared = gap = absolute = mean = 0.0
        for index, (critic, into) in enumerate(zip(self.critics.parts, self.critics.gradients, strict=True)):
            tape = self._critic_tapes[index]
            found = critic.forward(tape)[:, 0].reshape(draws + 2, rows)
            values[index] = found[-1]
            taken, errors = found[0], found[0] - target
            soft, this_gap = cql.soft_maximum((found[1:-1] - proposals.log_densities).T, taken=taken)
            by_output = np.empty((draws + 1, rows), dtype=np.float32)
            by_output[0] = (np.float32(2) * errors - weight) / np.float32(rows)
            by_output[1:] = soft.T * (weight / np.float32(rows))
            critic.backward(by_output.reshape(-1, 1), tape=tape, into=into)
            squared += float(np.dot(errors, errors) / rows)
            gap += this_gap
            absolute += float(np.abs(errors).mean()) / CRITICS
            mean += float(taken.mean()) / CRITICS
        told = {
            "critic_loss": squared + float(weight) * gap,
            "conservative_gap": gap / CRITICS,
            "td_error_mean": absolute,
            "q_mean": mean,
        }
        return told, values

    def _actor_gradient(self, drawn: squashed.Drawn, *, values: F32) -> float:
        """Of mean(alpha log p - min Q); critics' parameters get nothing. Gives that loss."""
        rows = values.shape[1]
        lesser = values.argmin(axis=0)
        by_action = np.empty_like(drawn.actions)
        first = self._critic_tapes[0].rows - rows
        for index, critic in enumerate(self.critics.parts):
            chosen = np.flatnonzero(lesser == index)
            by_value = np.full((len(chosen), 1), -1 / rows, dtype=np.float32)
            by_action[chosen] = critic.by_inputs(
                by_value,
                tape=self._critic_tapes[index],
                rows=chosen + first,
                first=self.critics.shape.inputs - self._settings.entries,
            )
        by_output = squashed.backward(drawn, by_action=by_action, by_log_probability=ALPHA / rows)
        self.actor.parts[0].backward(by_output, tape=self._actor_tape, into=self.actor.gradients[0])
        return float((ALPHA * drawn.log_probability - values.min(axis=0)).mean())

    def _make_tapes(self, rows: int) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._actor_tape = Tape(self.actor.shape, rows=2 * rows)
        self._target_tape = Tape(self.critics.shape, rows=rows)
        every = (SOURCES * self._settings.sampled_actions + 2) * rows
        self._critic_tapes = [Tape(self.critics.shape, rows=every) for _ in range(CRITICS)]
        for tape in self._critic_tapes[1:]:
            tape.inputs = self._critic_tapes[0].inputs

    def stats(self) -> dict[str, float]:
        return self._stats

    def state(self) -> dict[str, Array]:
        return {
            **self.actor.to_state("actor"),
            **self.critics.to_state("critics"),
            "targets": self.targets.flat.copy(),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        self.actor.load_state("actor", state)
        self.critics.load_state("critics", state)
        self.targets.load("targets", state)

    def learnt(self) -> Learnt:
        head = serving.SquashedGaussian(entries=self._settings.entries)
        return Learnt(net=self.actor.parts[0], head=head, parts=2)
