"""The engines' losses in torch: autograd says what their gradients must be, on the run's own shapes, before its first update.

Called by learning.py (`certify`) and by tests. Reads an engine's parameters, never writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rlaas_ray.errors import EngineFailed
from rlaas_ray.policies.heads import LOG_STD_HIGH, LOG_STD_LOW
from rlaas_ray.specs.arrays import F32, F64, Array, Bool
from rlaas_ray.train import heads
from rlaas_ray.train.actor_critic.deterministic import Deterministic
from rlaas_ray.train.actor_critic.discrete import ENTROPY_SHARE, Discrete
from rlaas_ray.train.actor_critic.networks import Batch
from rlaas_ray.train.actor_critic.perceptron import Shape
from rlaas_ray.train.actor_critic.sac import Continuous, Soft

CERTIFIED_DIFFERENCE = 1e-5  # of gradients, relative to the largest one where that is above 1
_ROWS = 32
_ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "linear": lambda values: values,
}
Engine = Continuous | Discrete | Deterministic


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradients:
    """Losses at the engine's parameters, and their gradients as flat vectors."""

    critic_loss: float
    actor_loss: float
    critics: F64
    actor: F64
    log_alpha: float = 0.0


def forward(flat: torch.Tensor, inputs: torch.Tensor, *, shape: Shape) -> torch.Tensor:
    """(n, inputs) -> (n, outputs), by one perceptron's slice of parameters."""
    offset, values = 0, inputs
    last = len(shape.widths) - 2
    for index, (before, after) in enumerate(zip(shape.widths, shape.widths[1:], strict=False)):
        weight = flat[offset : offset + before * after].view(after, before)
        offset += before * after
        values = values @ weight.T + flat[offset : offset + after]
        offset += after
        if index < last:
            values = _ACTIVATIONS[shape.activation](values)  # type: ignore[no-untyped-call]
    return values


def squashed(parameters: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Actions tanh(u) and their log-density, by torch's own transformed distribution."""
    mean, log_std = parameters.chunk(2, dim=1)
    std = log_std.clamp(LOG_STD_LOW, LOG_STD_HIGH).exp()
    normal = torch.distributions.Normal(mean, std, validate_args=False)
    tanh = torch.distributions.TanhTransform(cache_size=1)
    policy = torch.distributions.TransformedDistribution(normal, [tanh], validate_args=False)
    actions = tanh(mean + std * noise)
    return actions, policy.log_prob(actions).sum(dim=1)  # type: ignore[no-untyped-call]


def of_continuous(engine: Continuous, batch: Batch, *, noise: F32, dtype: torch.dtype = torch.float64) -> Gradients:
    """Of SAC's three losses (Haarnoja et al. 2018b)."""
    actor, critics, targets, log_alpha = _leaves(engine, dtype=dtype)
    here, following, drawn = (_tensor(x, dtype) for x in (batch.observations, batch.next_observations, noise))
    rows, shape = len(batch), engine.critics.shape
    alpha = log_alpha.detach().exp()
    actions, log_probability = squashed(forward(actor, here, shape=engine.actor.shape), drawn[:rows])
    with torch.no_grad():
        then, log_then = squashed(forward(actor, following, shape=engine.actor.shape), drawn[rows:])
        least = _values(targets, torch.cat([following, then], dim=1), shape=shape).min(dim=1).values
        target = _tensor(batch.rewards, dtype) + _tensor(batch.discounts, dtype) * (least - alpha * log_then)
    taken = _values(critics, torch.cat([here, _tensor(batch.actions, dtype)], dim=1), shape=shape)
    critic_loss = _squared(taken, target=target, batch=batch)
    least = _values(critics.detach(), torch.cat([here, actions], dim=1), shape=shape).min(dim=1).values
    actor_loss = (alpha * log_probability - least).mean()
    wanted = engine.temperature.target
    assert wanted is not None
    alpha_loss = -(log_alpha * (log_probability.detach() + wanted)).mean()
    return _gradients(
        critic_loss=critic_loss, actor_loss=actor_loss, alpha_loss=alpha_loss, leaves=(critics, actor, log_alpha)
    )


def of_discrete(engine: Discrete, batch: Batch, *, dtype: torch.dtype = torch.float64) -> Gradients:
    """Of SAC's three losses over all actions (Christodoulou 2019)."""
    actor, critics, targets, log_alpha = _leaves(engine, dtype=dtype)
    here, following = _tensor(batch.observations, dtype), _tensor(batch.next_observations, dtype)
    alpha, shape, n = log_alpha.detach().exp(), engine.critics.shape, engine.settings.actions
    logs = _logs(forward(actor, here, shape=engine.actor.shape), batch.masks)
    with torch.no_grad():
        logs_then = _logs(forward(actor, following, shape=engine.actor.shape), batch.next_masks)
        least = _values(targets, following, shape=shape).min(dim=1).values
        value = (logs_then.exp() * (least - alpha * logs_then)).sum(dim=1)
        target = _tensor(batch.rewards, dtype) + _tensor(batch.discounts, dtype) * value
    values = _values(critics, here, shape=shape)  # (n, critics, m)
    index = torch.from_numpy(batch.actions[:, 0].astype(np.int64))
    critic_loss = _squared(values[torch.arange(len(index)), :, index], target=target, batch=batch)
    actor_loss = (logs.exp() * (alpha * logs - values.detach().min(dim=1).values)).sum(dim=1).mean()
    allowed = n if batch.masks is None else torch.from_numpy(batch.masks.sum(axis=1))
    greatest = torch.log(torch.as_tensor(allowed, dtype=dtype)).mean()
    wanted = engine.temperature.target if engine.temperature.target is not None else ENTROPY_SHARE * greatest
    negative_entropy = (logs.exp() * logs).sum(dim=1).detach()
    alpha_loss = -(log_alpha * (negative_entropy + wanted)).mean()
    return _gradients(
        critic_loss=critic_loss, actor_loss=actor_loss, alpha_loss=alpha_loss, leaves=(critics, actor, log_alpha)
    )


def of_deterministic(
    engine: Deterministic, batch: Batch, *, noise: F32, dtype: torch.dtype = torch.float64
) -> Gradients:
    """Of TD3's two losses (Fujimoto et al. 2018), both at the same parameters."""
    actor, critics = (_tensor(net.flat, dtype).requires_grad_() for net in (engine.actor, engine.critics))
    actor_target, targets = (_tensor(target.flat, dtype) for target in (engine.actor_target, engine.critic_targets))
    here, following = _tensor(batch.observations, dtype), _tensor(batch.next_observations, dtype)
    shape = engine.critics.shape
    with torch.no_grad():
        then = torch.tanh(forward(actor_target, following, shape=engine.actor.shape)) + _tensor(noise, dtype)
        then = then.clamp(-1, 1)
        least = _values(targets, torch.cat([following, then], dim=1), shape=shape).min(dim=1).values
        target = _tensor(batch.rewards, dtype) + _tensor(batch.discounts, dtype) * least
    taken = _values(critics, torch.cat([here, _tensor(batch.actions, dtype)], dim=1), shape=shape)
    critic_loss = _squared(taken, target=target, batch=batch)
    actions = torch.tanh(forward(actor, here, shape=engine.actor.shape))
    actor_loss = -_values(critics.detach(), torch.cat([here, actions], dim=1), shape=shape)[:, 0].mean()
    nothing = torch.zeros((), dtype=dtype, requires_grad=True)
    return _gradients(
        critic_loss=critic_loss, actor_loss=actor_loss, alpha_loss=nothing * 0, leaves=(critics, actor, nothing)
    )


def certify(engine: Engine, *, rng: np.random.Generator, masked: bool = False) -> float:
    """Largest difference between the engine's gradients and autograd's in float64 on random rows. Raises EngineFailed."""
    batch = random_batch(engine, rng=rng, masked=masked)
    noise = engine.noise(_ROWS, rng=rng)
    if isinstance(engine, Deterministic):
        wanted = of_deterministic(engine, batch, noise=noise)
        engine.critic_gradient(batch, noise=noise)
        engine.actor_gradient(batch)
    elif isinstance(engine, Continuous):
        wanted = of_continuous(engine, batch, noise=noise)
        engine.gradient(batch, noise=noise)
    else:
        wanted = of_discrete(engine, batch)
        engine.gradient(batch, noise=noise)
    difference = max(
        _difference(engine.critics.gradient, wanted.critics), _difference(engine.actor.gradient, wanted.actor)
    )
    if not difference <= CERTIFIED_DIFFERENCE:
        raise EngineFailed(
            "analytic gradients differ from autograd", given=difference, expected=f"at most {CERTIFIED_DIFFERENCE}"
        )
    return difference


def random_batch(engine: Engine, *, rng: np.random.Generator, masked: bool = False, rows: int = _ROWS) -> Batch:
    """Rows that an env might have given, with weights and terminations; `masked`: of discrete actions, some forbidden."""
    settings = engine.settings
    n, discrete = settings.actions, isinstance(engine, Discrete)
    masks = [_random_masks(rows, n, rng=rng) if masked else None for _ in range(2)]
    actions = rng.integers(n, size=(rows, 1)) if discrete else rng.uniform(-1, 1, (rows, n)).astype(np.float32)
    if masks[0] is not None:
        actions = masks[0].argmax(axis=1)[:, None]
    return Batch(
        observations=rng.standard_normal((rows, settings.observations), dtype=np.float32),
        next_observations=rng.standard_normal((rows, settings.observations), dtype=np.float32),
        actions=actions,
        rewards=rng.standard_normal(rows, dtype=np.float32),
        discounts=np.where(rng.random(rows) < 0.2, 0, 0.98).astype(np.float32),
        weights=rng.uniform(0.5, 1, rows).astype(np.float32),
        masks=masks[0],
        next_masks=masks[1],
    )


def _random_masks(rows: int, n: int, *, rng: np.random.Generator) -> Bool:
    masks = rng.random((rows, n)) < 0.6
    masks[np.arange(rows), rng.integers(n, size=rows)] = True
    return masks


def _leaves(engine: Soft, *, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    log_alpha = torch.tensor(engine.temperature.log_alpha, dtype=dtype, requires_grad=True)
    actor, critics = (_tensor(net.flat, dtype).requires_grad_() for net in (engine.actor, engine.critics))
    return actor, critics, _tensor(engine.targets.flat, dtype), log_alpha


def _tensor(values: Array, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.array(values)).to(dtype)


def _values(flat: torch.Tensor, inputs: torch.Tensor, *, shape: Shape) -> torch.Tensor:
    """(n, critics), or (n, critics, m) of critics with m outputs."""
    found = torch.stack([forward(part, inputs, shape=shape) for part in torch.split(flat, shape.size)], dim=1)
    return found.squeeze(-1) if shape.outputs == 1 else found


def _squared(taken: torch.Tensor, *, target: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The sum over critics of half the mean weighted squared error."""
    weights = torch.ones_like(target) if batch.weights is None else _tensor(batch.weights, target.dtype)
    return 0.5 * (weights[:, None] * (taken - target[:, None]).square()).mean(dim=0).sum()


def _logs(logits: torch.Tensor, masks: Bool | None) -> torch.Tensor:
    if masks is not None:
        logits = logits.masked_fill(~torch.from_numpy(masks), float(heads.MASKED))
    return torch.log_softmax(logits, dim=1)


def _gradients(
    *,
    critic_loss: torch.Tensor,
    actor_loss: torch.Tensor,
    alpha_loss: torch.Tensor,
    leaves: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> Gradients:
    critics, actor, log_alpha = torch.autograd.grad(critic_loss + actor_loss + alpha_loss, leaves)
    return Gradients(
        critic_loss=critic_loss.item(),
        actor_loss=actor_loss.item(),
        critics=critics.double().numpy(),
        actor=actor.double().numpy(),
        log_alpha=log_alpha.item(),
    )


def _difference(given: F32, wanted: F64) -> float:
    """Largest absolute difference, over the largest wanted entry where that is above 1."""
    return float(np.abs(given - wanted).max() / max(1.0, float(np.abs(wanted).max())))
