"""What a scheme is worth: a network over a dataflow's embedding and the scheme, trained together with the graph network.

Called by agent.py. Values are in units of standardised reward; `Scale` turns them back. Never draws actions.

`B` dataflows, `k` schemes of each, `n` operators.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64

HIDDEN = (256, 512, 256, 128)


class Evaluator(nn.Module):
    """(embedding, p/P padded to `max_operators`) -> 256, 512, 256, 128, 1 with LayerNorm, ReLU and dropout."""

    def __init__(self, *, embedding: int = 64, max_operators: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        self.max_operators = max_operators
        widths = (embedding + max_operators, *HIDDEN)
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, embedding: Tensor, shares: Tensor) -> Tensor:
        """Embeddings (B, k, e) and p/P (B, k, n) -> values (B, k). Raises InvalidInput for too many operators."""
        operators = shares.shape[2]
        if operators > self.max_operators:
            raise InvalidInput(
                "operators of the dataflow",
                given=operators,
                expected=f"at most {self.max_operators}",
                cure='Make the agent with action_evaluator_config={"max_operators": ...}; its weights are new then.',
            )
        padded = nn.functional.pad(shares, (0, self.max_operators - operators))
        values: Tensor = self.layers(torch.cat([embedding, padded], dim=2)).squeeze(2)
        return values


class Scale:
    """Mean and deviation of every reward so far (Welford 1962); standardises targets, and turns values back to rewards."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0.0, 0.0, 0.0

    def take(self, rewards: F64) -> None:
        """Count rewards (m,)."""
        m = float(rewards.size)
        if not m:
            return
        mean = float(rewards.mean())
        squares = float(((rewards - mean) ** 2).sum())
        delta, total = mean - self.mean, self.count + m
        self.squares += squares + delta * delta * self.count * m / total
        self.mean += delta * m / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Of rewards; 1 before there are two that differ."""
        found = (self.squares / self.count) ** 0.5 if self.count > 1 else 0.0
        return found if found > 1e-8 else 1.0
