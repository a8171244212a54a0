"""The update of IMPALA and APPO in NumPy: V-trace, then exact gradients of policy, value and entropy losses over flat memory.

Driven by learning.py, and by collector.py for A3C's gradients; certified against autograd (oracle.py) before the first update.
Never allocates parameters, never steps an env.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import heads
from rlaas_ray.train.asynchronous.trajectories import Trajectory
from rlaas_ray.train.asynchronous.vtrace import Correction, vtrace
from rlaas_ray.train.heads import Evaluated, Head
from rlaas_ray.train.network import Network, Shape

TRUSTED = 2.0  # the most that behaviour over target-network probability may count (RLlib's APPO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The coefficients of the loss; `clip` None is IMPALA's policy gradient, a number is APPO's clipped surrogate."""

    correction: Correction
    clip: float | None
    value_coefficient: float  # of the mean squared error; twice that of RLlib, which halves the error
    entropy_coefficient: float
    gradient_clip: float | None


class Engine:
    """Gradients of one minibatch of whole rows. `parameters` and `gradient` are flat, float32, and stay the caller's."""

    def __init__(self, parameters: F32, gradient: F32, *, shape: Shape, head: Head, objective: Objective) -> None:
        self._gradient = gradient
        self._network = Network(parameters, shape)
        self._into = Network(gradient, shape)
        self._head = head
        self._objective = objective

    def gradient(self, batch: Trajectory, *, old: F32 | None = None) -> dict[str, float]:
        """Writes the gradient of the mean loss over valid rows; gives the loss's parts.

        `old` (T, B): log-probabilities of the target network, APPO's; V-trace then corrects towards it.
        """
        kept_policy: list[tuple[F32, F32]] = []
        kept_value: list[tuple[F32, F32]] = []
        valid = batch.valid
        found = self._evaluate(batch, kept=kept_policy)
        values, following = self._values(batch, kept=kept_value)
        behaviour = batch.log_probabilities[valid]
        towards = found.log_probability if old is None else old[valid]
        log_ratios = np.zeros(valid.shape, dtype=np.float32)
        log_ratios[valid] = towards - behaviour
        targets, advantages = vtrace(
            log_ratios=log_ratios,
            rewards=batch.rewards,
            values=values,
            following=following,
            terminated=batch.terminated,
            truncated=batch.truncated,
            correction=self._objective.correction,
        )
        count = np.float32(max(1, found.log_probability.shape[0]))
        loss, d_log_probability, clipped_share = self._policy(
            found.log_probability, behaviour=behaviour, old=towards, advantages=advantages[valid]
        )
        error = np.where(valid, values - targets, np.float32(0))
        self._backward(
            found, kept=(kept_policy, kept_value), d_log_probability=d_log_probability / count, error=error, count=count
        )
        value_loss = float(np.einsum("tb,tb->", error, error) / count)
        entropy = float(found.entropy.sum() / count)
        lag = behaviour - found.log_probability
        return {
            "total_loss": loss
            + self._objective.value_coefficient * value_loss
            - self._objective.entropy_coefficient * entropy,
            "policy_loss": loss,
            "vf_loss": value_loss,
            "entropy": entropy,
            "mean_kl": float((np.exp(-lag) - 1 + lag).sum() / count),
            "clipped_share": clipped_share,
        }

    def log_probabilities(self, batch: Trajectory) -> F32:
        """(T, B) of the actions taken, zero where rows are not valid."""
        found: F32 = np.zeros(batch.valid.shape, dtype=np.float32)
        found[batch.valid] = self._evaluate(batch, kept=None).log_probability
        return found

    def clip(self) -> float:
        """Scales the gradient to the objective's norm if it is longer; gives the norm before."""
        norm = float(np.sqrt(np.dot(self._gradient, self._gradient)))
        limit = self._objective.gradient_clip
        if limit is not None and norm > limit:
            self._gradient *= np.float32(limit / (norm + 1e-6))
        return norm

    def _evaluate(self, batch: Trajectory, *, kept: list[tuple[F32, F32]] | None) -> Evaluated:
        valid = batch.valid
        masks = None if batch.masks is None else batch.masks[valid]
        parameters = heads.masked(self._network.distribution(batch.observations[:-1][valid], kept=kept), masks)
        return self._head.evaluate(parameters, batch.actions[valid])

    def _values(self, batch: Trajectory, *, kept: list[tuple[F32, F32]]) -> tuple[F32, F32]:
        steps, rows = batch.steps, batch.rows
        width = batch.observations.shape[2]
        values = self._network.values(batch.observations.reshape(-1, width), kept=kept).reshape(steps + 1, rows)
        following = values[1:]
        if len(batch.final_at):
            following = following.copy()
            following[batch.final_at[:, 0], batch.final_at[:, 1]] = self._network.values(batch.final_observations)
        return values[:-1], following

    def _policy(self, log_probability: F32, *, behaviour: F32, old: F32, advantages: F32) -> tuple[float, F32, float]:
        """The mean loss, its derivative by each log-probability times the count of rows, and the share clipped."""
        if self._objective.clip is None:
            return -float(np.mean(log_probability * advantages)), -advantages, 0.0
        clip = np.float32(self._objective.clip)
        ratio = np.minimum(np.exp(behaviour - old), np.float32(TRUSTED)) * np.exp(log_probability - behaviour)
        surrogate = advantages * ratio
        clipped = advantages * np.clip(ratio, 1 - clip, 1 + clip)
        active = surrogate <= clipped
        loss = -float(np.mean(np.minimum(surrogate, clipped)))
        return loss, -surrogate * active, 1.0 - float(active.mean())

    def _backward(
        self,
        found: Evaluated,
        *,
        kept: tuple[list[tuple[F32, F32]], list[tuple[F32, F32]]],
        d_log_probability: F32,
        error: F32,
        count: np.float32,
    ) -> None:
        d_parameters = self._head.backward(
            found, d_log_probability=d_log_probability, d_entropy=-self._objective.entropy_coefficient / float(count)
        )
        outputs = self._head.size - self._head.free
        if self._into.log_std is not None:
            np.add.reduce(d_parameters[:, outputs:], axis=0, out=self._into.log_std)
        self._network.actor.backward(d_parameters[:, :outputs], kept=kept[0], into=self._into.actor)
        # The critic also saw the last observations, which only bootstrap.
        d_values = np.zeros(error.size + error.shape[1], dtype=np.float32)
        np.multiply(
            error.reshape(-1), np.float32(2 * self._objective.value_coefficient) / count, out=d_values[: error.size]
        )
        self._network.critic.backward(d_values[:, None], kept=kept[1], into=self._into.critic)
