"""The same loss by autograd: what engine.py is certified against before the first update. Never trains.

The loss is written in torch from the papers' formulas; V-trace enters as numbers, because no gradient passes through it.
"""

from __future__ import annotations

import numpy as np
import torch

from rlaas_ray.errors import EngineFailed
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, autograd, heads, network
from rlaas_ray.train.asynchronous.gradients import TRUSTED, Engine, Objective
from rlaas_ray.train.asynchronous.trajectories import Trajectory
from rlaas_ray.train.asynchronous.vtrace import vtrace
from rlaas_ray.train.heads import Head
from rlaas_ray.train.network import Shape

_STEPS, _ROWS = 8, 4


def gradient(
    parameters: F32,
    batch: Trajectory,
    *,
    shape: Shape,
    head: Head,
    objective: Objective,
    old: F32 | None = None,
) -> tuple[F32, float]:
    """The flat gradient and the loss; float32 as the engine."""
    state = analytic.fresh_state(parameters)
    module = autograd.TorchNetwork(shape)
    autograd.bind(module, state, shape=shape)
    valid = torch.from_numpy(batch.valid)
    outputs = module.distribution(torch.from_numpy(batch.observations[:-1])[valid])
    if batch.masks is not None:
        outputs = outputs.masked_fill(~torch.from_numpy(batch.masks)[valid], float(heads.MASKED))
    found, entropy = autograd.evaluate(outputs, torch.from_numpy(batch.actions)[valid], head=head)
    values = module.values(torch.from_numpy(batch.observations))
    following = values[1:].detach().clone()
    at = torch.from_numpy(batch.final_at)
    following[at[:, 0], at[:, 1]] = module.values(torch.from_numpy(batch.final_observations)).detach()
    behaviour = torch.from_numpy(batch.log_probabilities)[valid]
    towards = found.detach() if old is None else torch.from_numpy(old)[valid]
    log_ratios = torch.zeros(batch.valid.shape)
    log_ratios[valid] = towards - behaviour
    targets, advantages = (
        torch.from_numpy(part)[valid]
        for part in vtrace(
            log_ratios=log_ratios.numpy(),
            rewards=batch.rewards,
            values=values[:-1].detach().numpy(),
            following=following.numpy(),
            terminated=batch.terminated,
            truncated=batch.truncated,
            correction=objective.correction,
        )
    )
    if objective.clip is None:
        policy_loss = -(found * advantages).mean()
    else:
        ratio = (behaviour - towards).exp().clamp(max=TRUSTED) * (found - behaviour).exp()
        clipped = ratio.clamp(1 - objective.clip, 1 + objective.clip)
        policy_loss = -torch.minimum(advantages * ratio, advantages * clipped).mean()
    value_loss = (values[:-1][valid] - targets).square().mean()
    loss = policy_loss + objective.value_coefficient * value_loss - objective.entropy_coefficient * entropy.mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return state.gradient.numpy(), loss.item()


def certify(parameters: F32, *, shape: Shape, head: Head, objective: Objective, seed: int) -> float:
    """Largest difference between the two gradients on random rows at these parameters; raises beyond 1e-5 of the longest."""
    batch, old = invented(parameters, shape=shape, head=head, rng=np.random.default_rng(seed))
    given = None if objective.clip is None else old
    wanted, _ = gradient(parameters, batch, shape=shape, head=head, objective=objective, old=given)
    found = np.zeros_like(parameters)
    Engine(parameters, found, shape=shape, head=head, objective=objective).gradient(batch, old=given)
    difference = float(np.abs(found - wanted).max())
    if not difference <= autograd.CERTIFIED_DIFFERENCE:
        raise EngineFailed(
            "analytic gradients differ from autograd",
            given=difference,
            expected=f"at most {autograd.CERTIFIED_DIFFERENCE}",
        )
    return difference


def invented(
    parameters: F32, *, shape: Shape, head: Head, rng: np.random.Generator, masks: bool = False
) -> tuple[Trajectory, F32]:
    """A small random fragment with episodes that end in each way, behaviour and target network unlike these parameters."""
    size = (_STEPS, _ROWS)
    observations = rng.standard_normal((_STEPS + 1, _ROWS, shape.inputs), dtype=np.float32)
    allowed = rng.random((*size, shape.outputs)) < 0.7 if masks else None
    if allowed is not None:
        allowed[..., np.cumsum([0, *head.choices[:-1]])] = True
    flat = network.Network(parameters, shape).distribution(observations[:-1].reshape(-1, shape.inputs))
    outputs = heads.masked(flat, None if allowed is None else allowed.reshape(len(flat), -1))
    actions = head.draw(outputs, heads.noise(head, (len(flat),), rng=rng))
    now = head.evaluate(outputs, actions).log_probability.reshape(size)
    terminated = rng.random(size) < 0.1
    truncated = (rng.random(size) < 0.1) & ~terminated
    batch = Trajectory(
        observations=observations,
        actions=actions.reshape(*size, head.width),
        log_probabilities=now + rng.normal(0, 0.3, size).astype(np.float32),
        rewards=rng.standard_normal(size, dtype=np.float32),
        terminated=terminated,
        truncated=truncated,
        valid=rng.random(size) < 0.9,
        masks=allowed,
        final_at=np.array([[2, 1], [5, 3]]),
        final_observations=rng.standard_normal((2, shape.inputs), dtype=np.float32),
    )
    return batch, now + rng.normal(0, 0.3, size).astype(np.float32)
