"""PPO's update in NumPy: exact gradients of the clipped surrogate, entropy and value losses over flat memory, then Adam.

Driven by rllib/learner.py; certified there against autograd before the first update. Never allocates parameters: P, G, M, V are
torch tensors whose memory NumPy sees. tanh in NumPy is ten times torch's on one thread, hence this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rlaas_ray.specs.arrays import F32, I64, Bool
from rlaas_ray.train import heads
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.heads import Evaluated, Head
from rlaas_ray.train.network import Network, Shape

ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The coefficients of PPO's loss; no KL term, no clipping of the value's error."""

    clip: float
    value_coefficient: float
    entropy_coefficient: float
    gradient_clip: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How one update walks over its columns."""

    epochs: int
    minibatches: int
    share: float  # of the rows, drawn anew for each epoch
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Everything a learner knows: parameters, Adam's moments, and how many Adam steps and updates there were."""

    parameters: F32
    first: F32
    second: F32
    adam_steps: int
    updates: int


@dataclass(slots=True, kw_only=True, eq=False)
class FlatState:
    """Parameters, gradient and Adam's moments, each one flat float32 tensor; `step` counts Adam's steps."""

    parameters: torch.Tensor
    gradient: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    step: torch.Tensor

    def adam(self, learning_rate: float) -> None:
        """One step of Adam (Kingma & Ba 2015)."""
        torch._fused_adam_(  # the kernel of torch.optim.Adam(fused=True), without its grouping per call
            [self.parameters],
            [self.gradient],
            [self.first],
            [self.second],
            [],
            [self.step.add_(1)],
            lr=learning_rate,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            weight_decay=0.0,
            eps=ADAM_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def weights(self, *, updates: int) -> Weights:
        """A copy of everything."""
        return Weights(
            parameters=self.parameters.detach().cpu().numpy().copy(),
            first=self.first.cpu().numpy().copy(),
            second=self.second.cpu().numpy().copy(),
            adam_steps=int(self.step.item()),
            updates=updates,
        )

    def set_weights(self, weights: Weights) -> None:
        """Go on from `weights`, in place: views stay valid."""
        with torch.no_grad():
            self.parameters.copy_(torch.from_numpy(weights.parameters))
            self.first.copy_(torch.from_numpy(weights.first))
            self.second.copy_(torch.from_numpy(weights.second))
            self.step.fill_(weights.adam_steps)


def fresh_state(flat: F32) -> FlatState:
    """A state that starts at `flat` (copied), with zero moments."""
    parameters = torch.from_numpy(flat.copy())
    zeros = [torch.zeros_like(parameters) for _ in range(3)]
    return FlatState(parameters=parameters, gradient=zeros[0], first=zeros[1], second=zeros[2], step=torch.zeros(()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pass:
    """What the loss's parts are counted from, if anybody asks: (n,) each."""

    log_ratio: F32
    ratio: F32
    surrogate: F32
    clipped: F32
    active: Bool
    error: F32
    entropy: F32


class Analytic:
    """Gradients of one minibatch, and the update over all of them."""

    def __init__(self, state: FlatState, *, shape: Shape, head: Head, loss: Loss) -> None:
        self._state = state
        self._gradient: F32 = state.gradient.numpy()
        self._network = Network(state.parameters.numpy(), shape, reuse=True)
        self._into = Network(self._gradient, shape)
        self._head = head
        self._loss = loss

    def gradient(self, batch: Columns) -> dict[str, float]:
        """Writes the gradient of the mean loss of `batch` into the state; gives the loss's parts."""
        found = self._gradients(batch)
        return self._parts(found)

    def _gradients(self, batch: Columns) -> _Pass:
        count = np.float32(len(batch))
        kept_policy: list[tuple[F32, F32]] = []
        kept_value: list[tuple[F32, F32]] = []
        parameters = heads.masked(self._network.distribution(batch.observations, kept=kept_policy), batch.masks)
        error = self._network.values(batch.observations, kept=kept_value) - batch.targets
        found = self._head.evaluate(parameters, batch.actions)
        log_ratio = found.log_probability - batch.log_probabilities
        ratio = np.exp(log_ratio)
        surrogate = batch.advantages * ratio
        low, high = np.float32(1 - self._loss.clip), np.float32(1 + self._loss.clip)
        clipped = batch.advantages * np.minimum(np.maximum(ratio, low), high)
        active = surrogate <= clipped
        self._backward(
            found,
            kept=(kept_policy, kept_value),
            d_log_probability=surrogate * active / -count,
            d_value=(np.float32(2 * self._loss.value_coefficient) / count) * error[:, None],
            count=float(count),
        )
        return _Pass(
            log_ratio=log_ratio,
            ratio=ratio,
            surrogate=surrogate,
            clipped=clipped,
            active=active,
            error=error,
            entropy=found.entropy,
        )

    def _parts(self, found: _Pass) -> dict[str, float]:
        count = len(found.error)
        policy_loss = -float(np.minimum(found.surrogate, found.clipped).mean())
        value_loss = float(np.dot(found.error, found.error) / count)
        entropy = float(found.entropy.mean())
        return {
            "total_loss": policy_loss
            + self._loss.value_coefficient * value_loss
            - self._loss.entropy_coefficient * entropy,
            "policy_loss": policy_loss,
            "vf_loss": value_loss,
            "entropy": entropy,
            "mean_kl": float((found.ratio - 1 - found.log_ratio).mean()),
            "clipped_share": 1.0 - np.count_nonzero(found.active) / count,
        }

    def _backward(
        self,
        found: Evaluated,
        *,
        kept: tuple[list[tuple[F32, F32]], list[tuple[F32, F32]]],
        d_log_probability: F32,
        d_value: F32,
        count: float,
    ) -> None:
        d_parameters = self._head.backward(
            found,
            d_log_probability=d_log_probability,
            d_entropy=-self._loss.entropy_coefficient / count,
        )
        outputs = self._head.size - self._head.free
        if self._into.log_std is not None:
            np.add.reduce(d_parameters[:, outputs:], axis=0, out=self._into.log_std)
        self._network.actor.backward(d_parameters[:, :outputs], kept=kept[0], into=self._into.actor)
        self._network.critic.backward(d_value, kept=kept[1], into=self._into.critic)

    def clip(self) -> float:
        """Scales the gradient to the loss's norm if it is longer; gives the norm before."""
        norm = float(np.sqrt(np.dot(self._gradient, self._gradient)))
        limit = self._loss.gradient_clip
        if limit is not None and norm > limit:
            self._gradient *= np.float32(limit / (norm + 1e-6))
        return norm

    def update(
        self,
        batch: Columns,
        *,
        schedule: Schedule,
        rng: np.random.Generator,
        all_reduce: Callable[[torch.Tensor], None] | None = None,
    ) -> dict[str, float]:
        """All epochs over `batch`; gives the means over the last epoch. `all_reduce` averages gradients between learners."""
        last: list[dict[str, float]] = []
        for epoch, minibatch in minibatches(batch, schedule=schedule, rng=rng):
            found = self._gradients(minibatch)
            if all_reduce is not None:
                all_reduce(self._state.gradient)
            norm = self.clip()
            if epoch == schedule.epochs - 1:
                last.append({**self._parts(found), "gradient_norm": norm})
            self._state.adam(schedule.learning_rate)
        return {name: float(np.mean([stats[name] for stats in last])) for name in last[0]}


def minibatches(batch: Columns, *, schedule: Schedule, rng: np.random.Generator) -> Iterator[tuple[int, Columns]]:
    """(epoch, slice): every epoch permutes once and cuts evenly, so that no rest is dropped (trap T4)."""
    rows = len(batch)
    used = max(1, round(rows * schedule.share))
    count = min(schedule.minibatches, used)
    for epoch in range(schedule.epochs):
        # One gather an epoch: every minibatch is then a view.
        permuted = take(batch, rng.permutation(rows)[:used])
        for index in range(count):
            yield epoch, _between(permuted, low=index * used // count, high=(index + 1) * used // count)


def take(batch: Columns, rows: I64) -> Columns:
    """The rows named, copied."""
    return Columns(
        observations=batch.observations.take(rows, axis=0),
        actions=batch.actions.take(rows, axis=0),
        log_probabilities=batch.log_probabilities.take(rows),
        advantages=batch.advantages.take(rows),
        targets=batch.targets.take(rows),
        masks=None if batch.masks is None else batch.masks.take(rows, axis=0),
    )


def _between(batch: Columns, *, low: int, high: int) -> Columns:
    """Rows low to high, views."""
    return Columns(
        observations=batch.observations[low:high],
        actions=batch.actions[low:high],
        log_probabilities=batch.log_probabilities[low:high],
        advantages=batch.advantages[low:high],
        targets=batch.targets[low:high],
        masks=None if batch.masks is None else batch.masks[low:high],
    )
