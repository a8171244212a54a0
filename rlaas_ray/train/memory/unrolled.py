"""PPO's update over sequences: truncated gradients through time by autograd, Adam over flat memory.

Driven by family.py. The loss is analytic.py's, over the valid rows of each minibatch of sequences; gradients stop where a
sequence begins, its first state being what the policy had when it acted. Never samples.
"""

from __future__ import annotations

import numpy as np
import torch

from rlaas_ray.specs.arrays import Array
from rlaas_ray.train import autograd, heads
from rlaas_ray.train.analytic import FlatState, Loss, Schedule
from rlaas_ray.train.heads import Head
from rlaas_ray.train.memory import network, sequences
from rlaas_ray.train.memory.network import Shape
from rlaas_ray.train.memory.sequences import Sequences
from rlaas_ray.train.memory.torch_network import TorchNetwork


class SequenceEngine:
    """Gradients of one minibatch of sequences, and the update over all of them."""

    def __init__(self, state: FlatState, *, shape: Shape, head: Head, loss: Loss) -> None:
        self._state = state
        self._loss = loss
        self._head = head
        self.network = TorchNetwork(shape)
        autograd.bind_to(self.network, state, places=network.parameters(shape))

    def log_probabilities(self, batch: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability and entropy of the batch's actions, of its valid rows in the order of time."""
        valid = torch.from_numpy(batch.valid)
        given = torch.from_numpy(batch.observations)
        actor = torch.from_numpy(batch.actor[0])
        parameters = self.network.distribution(given, state=actor, starts=batch.starts)[valid]
        if batch.masks is not None:
            parameters = parameters.masked_fill(~torch.from_numpy(batch.masks)[valid], float(heads.MASKED))
        return autograd.evaluate(parameters, torch.from_numpy(batch.actions)[valid], head=self._head)

    def gradient(self, batch: Sequences) -> dict[str, float]:
        """Writes the gradient of the mean loss into the state; gives the loss's parts."""
        self._state.gradient.zero_()

        def rows(array: Array) -> torch.Tensor:
            return torch.from_numpy(array[batch.valid])

        log_probability, entropy = self.log_probabilities(batch)
        log_ratio = log_probability - rows(batch.log_probabilities)
        ratio = log_ratio.exp()
        surrogate = rows(batch.advantages) * ratio
        clipped = rows(batch.advantages) * ratio.clamp(1 - self._loss.clip, 1 + self._loss.clip)
        policy_loss = -torch.minimum(surrogate, clipped).mean()
        given, critic = torch.from_numpy(batch.observations), torch.from_numpy(batch.critic[0])
        values = self.network.values(given, state=critic, starts=batch.starts)[torch.from_numpy(batch.valid)]
        value_loss = (values - rows(batch.targets)).square().mean()
        mean_entropy = entropy.mean()
        loss = policy_loss + self._loss.value_coefficient * value_loss - self._loss.entropy_coefficient * mean_entropy
        loss.backward()  # type: ignore[no-untyped-call]
        return {
            "total_loss": loss.item(),
            "policy_loss": policy_loss.item(),
            "vf_loss": value_loss.item(),
            "entropy": mean_entropy.item(),
            "mean_kl": (ratio - 1 - log_ratio).mean().item(),
            "clipped_share": (surrogate > clipped).float().mean().item(),
        }

    def update(self, batch: Sequences, *, schedule: Schedule, rng: np.random.Generator) -> dict[str, float]:
        """All epochs over `batch`; gives the means over the last epoch."""
        last: list[dict[str, float]] = []
        for epoch, minibatch in sequences.minibatches(batch, schedule=schedule, rng=rng):
            if not minibatch.valid.any():
                continue
            stats = self.gradient(minibatch)
            stats["gradient_norm"] = self._clip()
            self._state.adam(schedule.learning_rate)
            if epoch == schedule.epochs - 1:
                last.append(stats)
        return {name: float(np.mean([stats[name] for stats in last])) for name in last[0]}

    def _clip(self) -> float:
        """Scales the gradient to the loss's norm if it is longer; gives the norm before."""
        norm = float(self._state.gradient.norm())
        if self._loss.gradient_clip is not None and norm > self._loss.gradient_clip:
            self._state.gradient.mul_(self._loss.gradient_clip / (norm + 1e-6))
        return norm
