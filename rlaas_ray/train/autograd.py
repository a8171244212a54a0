"""The same network and the same update in torch: the oracle of analytic.py, and the engine on a GPU.

Parameters are views into the same flat memory (analytic.FlatState), so the two can be exchanged between updates. Used by
rllib/module.py, rllib/learner.py, inprocess.py and tests. Never samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from rlaas_ray.errors import EngineFailed
from rlaas_ray.train import analytic, columns, heads, network
from rlaas_ray.train.analytic import FlatState, Loss, Schedule
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.heads import Head
from rlaas_ray.train.network import Shape

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "linear": lambda values: values,
}
CERTIFIED_DIFFERENCE = 1e-5


class TorchNetwork(torch.nn.Module):
    """Policy and value towers; parameters are named as in network.parameters."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.actor = _tower(shape, outputs=shape.outputs)
        self.critic = _tower(shape, outputs=1)
        if shape.free:
            self.log_std = torch.nn.Parameter(torch.zeros(shape.free))

    def distribution(self, observations: torch.Tensor) -> torch.Tensor:
        """(n, d) -> head parameters (n, k)."""
        outputs = _forward(self.actor, observations, activation=self.shape.activation)
        if not self.shape.free:
            return outputs
        return torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)

    def values(self, observations: torch.Tensor) -> torch.Tensor:
        """(n, d) -> (n,)."""
        return _forward(self.critic, observations, activation=self.shape.activation).squeeze(-1)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """What an exported policy computes."""
        return self.distribution(observations)


def _tower(shape: Shape, *, outputs: int) -> torch.nn.ModuleList:
    widths = [shape.inputs, *shape.hidden, outputs]
    return torch.nn.ModuleList(torch.nn.Linear(widths[i], widths[i + 1]) for i in range(len(widths) - 1))


def _forward(tower: torch.nn.ModuleList, inputs: torch.Tensor, *, activation: str) -> torch.Tensor:
    for layer, linear in enumerate(tower):
        inputs = linear(inputs)
        if layer < len(tower) - 1:
            inputs = _ACTIVATIONS[activation](inputs)
    return inputs


def bind(module: torch.nn.Module, state: FlatState, *, shape: Shape, prefix: str = "") -> None:
    """Make the module's parameters and gradients views into the state's flat tensors."""
    bind_to(module, state, places=network.parameters(shape), prefix=prefix)


def bind_to(
    module: torch.nn.Module, state: FlatState, *, places: Sequence[tuple[str, tuple[int, ...]]], prefix: str = ""
) -> None:
    """The same for a module whose parameters are named and shaped as `places`, in the order of the flat vector."""
    named = dict(module.named_parameters())
    offset = 0
    for name, dimensions in places:
        parameter = named.pop(prefix + name)
        size = parameter.numel()
        if tuple(parameter.shape) != dimensions:
            raise EngineFailed(f"parameter {name}", given=tuple(parameter.shape), expected=str(dimensions))
        parameter.data = state.parameters[offset : offset + size].view(dimensions)
        parameter.grad = state.gradient[offset : offset + size].view(dimensions)
        offset += size
    if named:
        raise EngineFailed("network has other parameters", given=sorted(named), expected="those of network.parameters")


class Autograd:
    """PPO's update by autograd, minibatch for minibatch as analytic.Analytic."""

    def __init__(self, state: FlatState, *, shape: Shape, head: Head, loss: Loss) -> None:
        self._state = state
        self._loss = loss
        self._head = head
        self._network = TorchNetwork(shape).to(state.parameters.device)
        bind(self._network, state, shape=shape)

    def gradient(self, batch: Columns) -> dict[str, float]:
        """Writes the gradient of the mean loss into the state; gives the loss's parts."""
        self._state.gradient.zero_()
        device = self._state.parameters.device
        observations = torch.from_numpy(batch.observations).to(device)
        parameters = self._network.distribution(observations)
        if batch.masks is not None:
            parameters = parameters.masked_fill(~torch.from_numpy(batch.masks).to(device), float(heads.MASKED))
        values = self._network.values(observations)
        total, stats = objective(parameters, values, batch=batch, head=self._head, loss=self._loss)
        total.backward()  # type: ignore[no-untyped-call]
        return stats

    def clip(self) -> float:
        """Scales the gradient to the loss's norm if it is longer; gives the norm before."""
        norm = float(self._state.gradient.norm())
        if self._loss.gradient_clip is not None and norm > self._loss.gradient_clip:
            self._state.gradient.mul_(self._loss.gradient_clip / (norm + 1e-6))
        return norm

    def update(
        self,
        batch: Columns,
        *,
        schedule: Schedule,
        rng: np.random.Generator,
        all_reduce: Callable[[torch.Tensor], None] | None = None,
    ) -> dict[str, float]:
        """All epochs over `batch`; gives the means over the last epoch."""
        last: list[dict[str, float]] = []
        for epoch, minibatch in analytic.minibatches(batch, schedule=schedule, rng=rng):
            stats = self.gradient(minibatch)
            if all_reduce is not None:
                all_reduce(self._state.gradient)
            stats["gradient_norm"] = self.clip()
            self._state.adam(schedule.learning_rate)
            if epoch == schedule.epochs - 1:
                last.append(stats)
        return {name: float(np.mean([stats[name] for stats in last])) for name in last[0]}


def objective(
    parameters: torch.Tensor, values: torch.Tensor, *, batch: Columns, head: Head, loss: Loss
) -> tuple[torch.Tensor, dict[str, float]]:
    """PPO's loss (Schulman et al. 2017) of rows: masked parameters (n, k), values (n,); and its parts."""
    device = parameters.device
    log_probability, entropy = evaluate(parameters, torch.from_numpy(batch.actions).to(device), head=head)
    log_ratio = log_probability - torch.from_numpy(batch.log_probabilities).to(device)
    ratio = log_ratio.exp()
    advantages = torch.from_numpy(batch.advantages).to(device)
    surrogate = advantages * ratio
    clipped = advantages * ratio.clamp(1 - loss.clip, 1 + loss.clip)
    policy_loss = -torch.minimum(surrogate, clipped).mean()
    value_loss = (values - torch.from_numpy(batch.targets).to(device)).square().mean()
    mean_entropy = entropy.mean()
    total = policy_loss + loss.value_coefficient * value_loss - loss.entropy_coefficient * mean_entropy
    return total, {
        "total_loss": total.item(),
        "policy_loss": policy_loss.item(),
        "vf_loss": value_loss.item(),
        "entropy": mean_entropy.item(),
        "mean_kl": (ratio - 1 - log_ratio).mean().item(),
        "clipped_share": (surrogate > clipped).float().mean().item(),
    }


def evaluate(parameters: torch.Tensor, actions: torch.Tensor, *, head: Head) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy (n,) of rows, as heads.Head.evaluate computes them."""
    if head.gaussian:
        mean, log_std = parameters.chunk(2, dim=-1)
        normal = torch.distributions.Normal(mean, log_std.exp(), validate_args=False)
        return normal.log_prob(actions).sum(-1), normal.entropy().sum(-1)  # type: ignore[no-untyped-call]
    log_probability: torch.Tensor = torch.zeros(parameters.shape[0], device=parameters.device)
    entropy = log_probability
    for column, logits in enumerate(torch.split(parameters, head.choices, dim=-1)):
        categorical = torch.distributions.Categorical(logits=logits, validate_args=False)
        log_probability = log_probability + categorical.log_prob(actions[:, column])  # type: ignore[no-untyped-call]
        entropy = entropy + categorical.entropy()  # type: ignore[no-untyped-call]
    return log_probability, entropy


def certify(flat: FlatState, *, shape: Shape, head: Head, loss: Loss, rng: np.random.Generator) -> float:
    """Largest difference between the two engines' gradients on 32 random rows at these parameters; raises beyond 1e-5."""
    parameters = flat.parameters.detach().cpu().numpy()
    observations = rng.standard_normal((32, shape.inputs), dtype=np.float32)
    policy = network.Network(parameters, shape)
    given = policy.distribution(observations)
    actions = head.draw(given, heads.noise(head, (32,), rng=rng))
    batch = Columns(
        observations=observations,
        actions=actions,
        log_probabilities=head.evaluate(given, actions).log_probability
        + rng.normal(0, 0.3, 32).astype(np.float32),  # ratios on both sides of the clip
        advantages=columns.standardise(rng.standard_normal(32, dtype=np.float32)),
        targets=rng.standard_normal(32, dtype=np.float32),
    )
    gradients = []
    for engine in (analytic.Analytic, Autograd):
        state = analytic.fresh_state(parameters)
        engine(state, shape=shape, head=head, loss=loss).gradient(batch)
        gradients.append(state.gradient.numpy())
    difference = float(np.abs(gradients[0] - gradients[1]).max())
    if not difference <= CERTIFIED_DIFFERENCE:
        raise EngineFailed(
            "analytic gradients differ from autograd", given=difference, expected=f"at most {CERTIFIED_DIFFERENCE}"
        )
    return difference
