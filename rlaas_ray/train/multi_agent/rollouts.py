"""Copies of a multi-agent env stepped T times into one block for each policy: rows are its agents in all copies.

Held by sampler.py. Like train/rollouts.py, but with several policies, agents that come and go, and spaces that may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rlaas_ray.envs import multi_agent
from rlaas_ray.errors import WorkFailed
from rlaas_ray.policies import decoders, spaces
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train.worlds import Group, Worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a policy's actions: entries, and whether they are integers."""

    entries: int
    discrete: bool


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """T steps of one policy's rows (copy * agents + agent)."""

    observations: F32  # (T + 1, rows, d), encoded
    present: Bool  # (T + 1, rows): the observation is the row's own, it acts on it
    actions: Array  # (T, rows, a)
    rewards: F32  # (T, rows)
    terminated: Bool
    truncated: Bool
    masks: Bool | None  # (T + 1, rows, m)
    final: list[tuple[int, int, F32]] = field(default_factory=list)  # (t, row, encoded last observation)


@dataclass(slots=True, kw_only=True, eq=False)
class Blocks:
    """One block for each policy, and the true returns of whole copies and of each agent."""

    by_policy: dict[str, Block]
    returns: list[float]
    lengths: list[int]
    agent_returns: dict[str, list[float]]
    steps: int


class Act(Protocol):
    """Encoded observations (rows, d) and masks (rows, m) of step t -> proposed actions (rows, a)."""

    def __call__(self, *, t: int, current: F32, mask: Bool | None) -> Array: ...


class AgentRollouts:
    """Running state of the copies; they are made at the first block."""

    def __init__(self, worlds: Worlds, *, envs: int, steps: int, seed: int, index: int) -> None:
        self._worlds = worlds
        self._envs, self._steps, self._seed, self._index = envs, steps, seed, index
        self._copies: multi_agent.Copies | None = None
        self._rng = np.random.default_rng(seed)
        self._decoders = {group.policy: decoders.for_action_space(group.action_space) for group in worlds.groups}

    def open(self, iteration: int) -> np.random.Generator:
        """Make the copies unless there are some; gives the sampler's generator. Seeds as in train/rollouts.py."""
        if self._copies is None:
            seed = self._seed
            if iteration:
                seed = int(np.random.SeedSequence([self._seed, iteration]).generate_state(1)[0] >> 1)
            self._rng = np.random.default_rng(np.random.SeedSequence([self._seed, iteration, self._index]))
            self._copies = multi_agent.make(
                self._worlds.env,
                config=self._worlds.config,
                copies=self._envs,
                seed=seed,
                first_index=self._index * self._envs,
            )
            self._earned = np.zeros(self._copies.present.shape)
            self._length = np.zeros(self._envs, dtype=np.int64)
        return self._rng

    def close(self) -> None:
        """Release the copies."""
        if self._copies is not None:
            self._copies.close()
            self._copies = None

    def collect(self, acts: Mapping[str, Act], *, sizes: Mapping[str, Size]) -> Blocks:
        """T steps, each policy by its own act. Raises WorkFailed on NaN."""
        groups = self._worlds.groups
        blocks = {group.policy: self._empty(group, size=sizes[group.policy]) for group in groups}
        told = Blocks(by_policy=blocks, returns=[], lengths=[], agent_returns={}, steps=0)
        for t in range(self._steps):
            actions: dict[str, Any] = {}
            for group in groups:
                block = blocks[group.policy]
                mask = self._observe(block, t, group=group)
                block.actions[t] = acts[group.policy](t=t, current=block.observations[t], mask=mask)
                actions |= self._executed(block.actions[t], block.observations[t], group=group)
            self._step(actions, t=t, told=told)
        for group in groups:
            self._observe(blocks[group.policy], self._steps, group=group)
            _check_finite(blocks[group.policy], env=self._worlds.env)
        return told

    def _observe(self, block: Block, t: int, *, group: Group) -> Bool | None:
        assert self._copies is not None
        raw = [self._copies.observations[agent][b] for b in range(self._envs) for agent in group.agents]
        block.observations[t] = spaces.encode(group.observation_space, raw)
        block.present[t] = self._copies.present[:, list(group.columns)].reshape(-1)
        mask = spaces.action_mask(group.observation_space, raw)
        if block.masks is not None:
            block.masks[t] = mask
        return mask

    def _executed(self, proposed: Array, observations: F32, *, group: Group) -> dict[str, Any]:
        decoded = self._decoders[group.policy].decode(proposed.astype(np.float64), observations=observations)
        executed = spaces.actions(group.action_space, decoded)
        shaped = executed.reshape(self._envs, len(group.agents), *executed.shape[1:])
        return {agent: shaped[:, a] for a, agent in enumerate(group.agents)}

    def _step(self, actions: Mapping[str, Any], *, t: int, told: Blocks) -> None:
        assert self._copies is not None
        stepped = self._copies.step(actions)
        for group in self._worlds.groups:
            block, columns = told.by_policy[group.policy], list(group.columns)
            block.rewards[t] = stepped.rewards[:, columns].reshape(-1)
            block.terminated[t] = stepped.terminated[:, columns].reshape(-1)
            # A copy that is over ends the episode of whoever had not ended: by truncation, for nobody said it was terminal.
            cut = stepped.truncated[:, columns] | (stepped.over[:, None] & ~stepped.terminated[:, columns])
            block.truncated[t] = cut.reshape(-1)
            block.final.extend(_finals(stepped.final, t=t, group=group, copies=self._envs))
        self._count(stepped, told=told)

    def _count(self, stepped: multi_agent.Stepped, *, told: Blocks) -> None:
        assert self._copies is not None
        self._earned += stepped.rewards
        self._length += 1
        told.steps += self._envs
        for b in np.flatnonzero(stepped.over):
            told.returns.append(float(self._earned[b].sum()))
            told.lengths.append(int(self._length[b]))
            for a, agent in enumerate(self._copies.agents):
                told.agent_returns.setdefault(agent.name, []).append(float(self._earned[b, a]))
            self._earned[b] = 0.0
            self._length[b] = 0

    def _empty(self, group: Group, *, size: Size) -> Block:
        steps, rows = self._steps, self._envs * len(group.agents)
        width = spaces.encoded_size(group.observation_space)
        choices = spaces.mask_size(group.observation_space)
        return Block(
            observations=np.empty((steps + 1, rows, width), dtype=np.float32),
            present=np.empty((steps + 1, rows), dtype=np.bool_),
            actions=np.empty((steps, rows, size.entries), dtype=np.int64 if size.discrete else np.float32),
            rewards=np.empty((steps, rows), dtype=np.float32),
            terminated=np.empty((steps, rows), dtype=np.bool_),
            truncated=np.empty((steps, rows), dtype=np.bool_),
            masks=np.empty((steps + 1, rows, choices), dtype=np.bool_) if choices else None,
        )


def _finals(final: Mapping[str, Sequence[Any]], *, t: int, group: Group, copies: int) -> list[tuple[int, int, F32]]:
    return [
        (t, b * len(group.agents) + a, spaces.encode(group.observation_space, [final[agent][b]])[0])
        for b in range(copies)
        for a, agent in enumerate(group.agents)
        if final[agent][b] is not None
    ]


def _check_finite(block: Block, *, env: str) -> None:
    if not (np.isfinite(block.observations).all() and np.isfinite(block.rewards).all()):
        raise WorkFailed(
            f"{env} gave NaN or infinity", expected="finite observations and rewards", cure="Look at the env's step."
        )
