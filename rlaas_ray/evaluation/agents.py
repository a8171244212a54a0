"""How good policies are together: whole episodes of a multi-agent env, each agent deciding by its own policy.

Called by training's last step. Worlds depend on the seed alone. Never reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs.multi_agent import Copies
from rlaas_ray.errors import Interrupted, WorkFailed
from rlaas_ray.evaluation import intervals
from rlaas_ray.evaluation.episodes import BLOCK, Decider, Evaluation
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F64

_MAX_STEPS = 1_000_000


def evaluate(
    policies: Mapping[str, Decider],
    *,
    make: Callable[[int, int], Copies],
    episodes: int,
    seed: int,
    halted: Callable[[], bool] = lambda: False,
) -> tuple[Evaluation, dict[str, float]]:
    """The evaluation of the agents' summed return, and each agent's mean. `policies` by agent; `make(copies, seed)`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    earned: list[F64] = []
    lengths: list[F64] = []
    names: list[str] = []
    for start in range(0, episodes, BLOCK):
        copies = make(min(BLOCK, episodes - start), seed + start)
        try:
            names = [agent.name for agent in copies.agents]
            block = _block(policies, copies=copies, rng=rng, halted=halted)
        finally:
            copies.close()
        earned.append(block[0])
        lengths.append(block[1])
    by_agent = np.concatenate(earned)
    returns = by_agent.sum(axis=1)
    spread = intervals.t_interval(returns) if episodes > 1 else None
    whole = Evaluation(
        return_mean=float(returns.mean()),
        return_ci95=None if spread is None else (spread.low, spread.high),
        returns=returns,
        lengths=np.concatenate(lengths),
        costs={},
        episodes=episodes,
        seed=seed,
    )
    return whole, dict(zip(names, by_agent.mean(axis=0).tolist(), strict=True))


def _block(
    policies: Mapping[str, Decider], *, copies: Copies, rng: np.random.Generator, halted: Callable[[], bool]
) -> tuple[F64, F64]:
    """Returns (B, A) and lengths (B,) of each copy's first episode."""
    shape = copies.present.shape
    returns, lengths, running = np.zeros(shape), np.zeros(shape[0]), np.ones(shape[0], dtype=np.bool_)
    for _ in range(_MAX_STEPS):
        if halted():
            raise Interrupted("the evaluation is stopped", cure="It begins again from its seed.")
        actions: dict[str, Any] = {}
        for agent in copies.agents:
            policy, seen = policies[agent.name], copies.observations[agent.name]
            drawn = policy.decide(policy.encode(seen), rng=rng, mask=policy.action_mask(seen))
            actions[agent.name] = spaces.actions(agent.action_space, drawn.action)
        stepped = copies.step(actions)
        returns += np.where(running[:, None], stepped.rewards, 0.0)
        lengths += running
        running &= ~stepped.over
        if not running.any():
            return returns, lengths
    raise WorkFailed("an episode does not end", given=f"{_MAX_STEPS} steps", expected="termination or truncation")
