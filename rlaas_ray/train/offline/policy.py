"""The policy that offline learners fit to logged actions: a perceptron, a head, and for a Gaussian a log std of its own.

Held by imitation.py and iql.py; both maximise a weighted log-likelihood of logged actions. Never draws an action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import analytic, heads
from rlaas_ray.train.actor_critic.networks import Net, other_network
from rlaas_ray.train.actor_critic.perceptron import Activation, Shape, Tape
from rlaas_ray.train.heads import Head
from rlaas_ray.train.offline.learner import Learnt

# Actions that one observation always had would drive the density to infinity (Kostrikov et al. 2022 bound it alike).
LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0
_FINAL_GAIN = 0.01  # of the last layer: all actions alike at the start


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What the nets of a learner have in common."""

    observations: int  # d
    hidden: tuple[int, ...]
    activation: Activation

    def shape(self, *, outputs: int, more: int = 0) -> Shape:
        """Of a net with `more` inputs beside the observation."""
        return Shape(inputs=self.observations + more, hidden=self.hidden, outputs=outputs, activation=self.activation)


class Policy:
    """Parameters of the head as a function of observations; `gradient` writes, `step` moves."""

    def __init__(self, widths: Widths, *, head: Head, rng: np.random.Generator) -> None:
        self.head = head
        outputs = head.size - head.free
        self.net = Net(widths.shape(outputs=outputs), copies=1, rng=rng, final_gain=_FINAL_GAIN)
        self._spread = analytic.fresh_state(np.zeros(head.free, dtype=np.float32))
        self._tape = Tape(self.net.shape, rows=0)

    @property
    def log_std(self) -> F32 | None:
        """(a,) of a Gaussian; a view."""
        found: F32 = self._spread.parameters.numpy()
        return found if self.head.free else None

    def evaluate(self, observations: F32, *, actions: Array, masks: Bool | None = None) -> heads.Evaluated:
        """Log-probabilities and entropies (n,) of logged actions (n, a)."""
        if self._tape.rows != len(observations):
            self._tape = Tape(self.net.shape, rows=len(observations))
        self._tape.inputs[:] = observations
        outputs = self.net.parts[0].forward(self._tape)
        if self.log_std is not None:
            outputs = np.concatenate([outputs, np.broadcast_to(self.log_std, outputs.shape)], axis=1)
        return self.head.evaluate(heads.masked(outputs, masks), actions)

    def gradient(self, found: heads.Evaluated, *, weights: F32) -> float:
        """Writes the gradient of -mean(weights * log-probability), of what `evaluate` gave last; gives that loss."""
        rows = len(weights)
        by_output = self.head.backward(found, d_log_probability=-weights / np.float32(rows), d_entropy=0.0)
        outputs = self.head.size - self.head.free
        if self.head.free:
            np.add.reduce(by_output[:, outputs:], axis=0, out=self._spread.gradient.numpy())
        self.net.parts[0].backward(by_output[:, :outputs], tape=self._tape, into=self.net.gradients[0])
        return -float(np.dot(weights, found.log_probability) / rows)

    def step(self, *, learning_rate: float, gradient_clip: float | None) -> None:
        """Adam; the log std stays within its bounds."""
        self.net.step(learning_rate=learning_rate, gradient_clip=gradient_clip)
        if self.log_std is not None:
            self._spread.adam(learning_rate)
            np.clip(self.log_std, LOG_STD_LOW, LOG_STD_HIGH, out=self.log_std)

    def learnt(self, head: serving.Head) -> Learnt:
        """For export, with the same head for serving."""
        return Learnt(net=self.net.parts[0], head=head, parts=2 if self.head.free else 1, log_std=self.log_std)

    def state(self) -> dict[str, Array]:
        """A copy of everything."""
        spread = self._spread.weights(updates=0)
        return {
            **self.net.to_state("policy"),
            "log_std.parameters": spread.parameters,
            "log_std.first": spread.first,
            "log_std.second": spread.second,
            "log_std.steps": np.array([spread.adam_steps], dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse, in place. Raises InvalidInput."""
        self.net.load_state("policy", state)
        found = [state.get(f"log_std.{part}") for part in ("parameters", "first", "second", "steps")]
        parameters, first, second, steps = found
        own: F32 = self._spread.parameters.numpy()
        if parameters is None or first is None or second is None or steps is None or parameters.shape != own.shape:
            raise other_network("log_std", given=parameters, expected=own)
        self._spread.set_weights(
            analytic.Weights(
                parameters=parameters.astype(np.float32),
                first=first.astype(np.float32),
                second=second.astype(np.float32),
                adam_steps=int(steps[0]),
                updates=0,
            )
        )
