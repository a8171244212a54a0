"""What becomes of several agents' policies at the end: bundles for them, and what they earn together.

Called by runner.py. A bundle is of one agent (or of all, where they share): it decides for one agent's observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import multi_agent
from rlaas_ray.envs.multi_agent import Copies
from rlaas_ray.evaluation import agents
from rlaas_ray.evaluation.episodes import Decider
from rlaas_ray.policies import spaces
from rlaas_ray.policies.bundle import LoadedPolicy
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train.worlds import Group, Worlds

COPIES = 8


def visited(policies: Mapping[str, LoadedPolicy], *, worlds: Worlds, seed: int, rows: int) -> dict[str, F32]:
    """Encoded observations (>= rows, d) of each policy, where all of them together go. `policies` by the policy's name."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, rows]))
    copies = _copies(worlds, copies=COPIES, seed=int(rng.integers(2**31)))
    seen: dict[str, list[F32]] = {group.policy: [] for group in worlds.groups}
    try:
        while any(sum(map(len, found)) < rows for found in seen.values()):
            actions: dict[str, Any] = {}
            for group in worlds.groups:
                for column, agent in zip(group.columns, group.agents, strict=True):
                    raw, policy = copies.observations[agent], policies[group.policy]
                    encoded = policy.encode(raw)
                    seen[group.policy].append(encoded[copies.present[:, column]])
                    drawn = policy.decide(encoded, rng=rng, mask=policy.action_mask(raw))
                    actions[agent] = spaces.actions(group.action_space, drawn.action)
            copies.step(actions)
    finally:
        copies.close()
    return {name: np.concatenate(found) for name, found in seen.items()}


def evaluation(
    policies: Mapping[str, Decider], *, worlds: Worlds, episodes: int, seed: int, halted: Callable[[], bool]
) -> dict[str, Any]:
    """The evaluation of all together as JSON; `return_mean` is of the agents' sum, `agents` has each one's mean."""
    by_agent = {agent: policies[group.policy] for group in worlds.groups for agent in group.agents}
    found, each = agents.evaluate(
        by_agent,
        make=lambda copies, first: _copies(worlds, copies=copies, seed=first),
        episodes=episodes,
        seed=seed,
        halted=halted,
    )
    return {**found.to_json(), "agents": each}


def group_of(worlds: Worlds, *, policy: str) -> Group:
    """The group that this policy decides for."""
    return next(group for group in worlds.groups if group.policy == policy)


def _copies(worlds: Worlds, *, copies: int, seed: int) -> Copies:
    return multi_agent.make(worlds.env, config=worlds.config, copies=copies, seed=seed)
