"""The collector of policies with a memory: the NumPy engine steps policy and value; fragments as sequences.

Made by the family. Acts with the very program that a bundle holds (policies/engines), so that what was logged is what is served.
States live here between fragments; weights and statistics come with every request. Never learns.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from rlaas_ray.policies import network as programs
from rlaas_ray.policies.engines.numpy_engine import NumpyEngine
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns, heads, rollouts
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.memory import network
from rlaas_ray.train.memory.network import Shape
from rlaas_ray.train.memory.sequences import Sequences, cut
from rlaas_ray.train.rollouts import Block, Rollouts, Seen
from rlaas_ray.train.sampler import Sampling
from rlaas_ray.train.seam import Collector
from rlaas_ray.train.worlds import Worlds


class MemorySampler(Collector):
    """Rollouts, and the two towers of each request. `length`: steps of a sequence; divides the fragment's."""

    def __init__(self, worlds: Worlds, *, sampling: Sampling, shape: Shape, length: int, seed: int, index: int) -> None:
        self._sampling = sampling
        self._shape = shape
        self._length = length
        self._head = heads.head_of(worlds.action_space)
        self._rollouts = Rollouts(worlds, envs=sampling.envs, steps=sampling.steps, seed=seed, index=index)
        self._states = {tower: np.zeros((0, shape.state_size()), dtype=np.float32) for tower in network.TOWERS}
        self._discounted = np.zeros(1)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment with the request's policy."""
        rng = self._rollouts.open(request.iteration)
        filtered = self._sampling.normalise_observations and request.observations.count > 0
        mean, scale = columns.scale_of(request.observations)
        normaliser = programs.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT) if filtered else None
        steps, rows = self._sampling.steps, self._rollouts.rows
        if len(self._states["actor"]) != rows:
            self._states = {tower: np.zeros((rows, self._shape.state_size()), np.float32) for tower in network.TOWERS}
        walk = _Walk(
            engines={
                tower: NumpyEngine(network.program(request.parameters, self._shape, tower=tower, normaliser=normaliser))
                for tower in network.TOWERS
            },
            states=self._states,
            sizes=(steps, rows, self._head.size),
            length=self._length,
        )
        noise = heads.noise(self._head, (steps, rows), rng=rng)

        def act(seen: Seen) -> Array:
            walk.step(seen)
            walk.parameters[seen.t] = heads.masked(walk.parameters[seen.t], seen.mask)
            return self._head.draw(walk.parameters[seen.t], noise[seen.t])

        block = self._rollouts.collect(act, entries=self._head.width, discrete=not self._head.gaussian)
        self._states = walk.states
        return self._finish(block, walk=walk, normaliser=normaliser, request=request)

    def close(self) -> None:
        """Release the env."""
        self._rollouts.close()

    def _finish(
        self, block: Block, *, walk: _Walk, normaliser: programs.Normaliser | None, request: Request
    ) -> Fragment:
        steps, rows = block.rewards.shape
        rewards, returns = self._scaled(block, request=request)
        values, following = walk.values_of(block)
        found, targets = columns.advantages(
            rewards=rewards,
            values=values,
            following=following,
            terminated=block.terminated,
            truncated=block.truncated,
            gamma=self._sampling.gamma,
            gae_lambda=self._sampling.gae_lambda,
        )
        evaluated = self._head.evaluate(
            walk.parameters.reshape(steps * rows, -1), block.actions.reshape(steps * rows, -1)
        )
        sequences = Sequences(
            observations=cut(_normalised(block.observations[:-1], normaliser=normaliser), steps=self._length),
            actions=cut(block.actions, steps=self._length),
            log_probabilities=cut(evaluated.log_probability.reshape(steps, rows), steps=self._length),
            advantages=cut(found, steps=self._length),
            targets=cut(targets, steps=self._length),
            valid=cut(block.valid, steps=self._length),
            starts=cut(block.starts[:-1], steps=self._length),
            actor=self._begun(walk.begun["actor"], normaliser=normaliser),
            critic=self._begun(walk.begun["critic"], normaliser=normaliser),
            masks=None if block.masks is None else cut(block.masks[:-1], steps=self._length),
        )
        cpu = time.process_time()
        fragment = Fragment(
            columns=sequences,
            observations=columns.moments(block.observations[:-1][block.valid])
            if self._sampling.normalise_observations
            else columns.no_moments(self._shape.inputs),
            returns=returns,
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=int(block.valid.sum()),
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment

    def _begun(self, states: F32, *, normaliser: programs.Normaliser | None) -> F32:
        """States (C, B, s) before each sequence -> (1, C * B, s). Attention's observations are normalised like the others."""
        flat: F32 = states.reshape(1, -1, states.shape[2])
        if self._shape.kind != "attention":
            return flat
        places = flat.reshape(flat.shape[1], -1, 1 + self._shape.inputs)
        places[:, :, 1:] = _normalised(places[:, :, 1:], normaliser=normaliser)
        return flat

    def _scaled(self, block: Block, *, request: Request) -> tuple[F32, columns.Moments]:
        """Rewards over the running std of discounted returns, if the plan says so; and this fragment's part of that std."""
        if not self._sampling.scale_rewards:
            return block.rewards, columns.no_moments(1)
        rows = block.rewards.shape[1]
        before = self._discounted if self._discounted.shape[0] == rows else np.zeros(rows)
        seen, self._discounted = rollouts.discounted(block, before=before, gamma=self._sampling.gamma)
        return rollouts.scale(block.rewards, returns=request.returns), columns.moments(seen[block.valid][:, None])


class _Walk:
    """Both towers along one block: parameters and values of each step, states at the start of each sequence."""

    def __init__(
        self, *, engines: dict[str, NumpyEngine], states: dict[str, F32], sizes: tuple[int, int, int], length: int
    ) -> None:
        steps, rows, width = sizes
        self._engines = engines
        self._length = length
        self.states = states
        self.parameters: F32 = np.empty((steps, rows, width), dtype=np.float32)
        self._values: F32 = np.empty((steps, rows), dtype=np.float32)
        self.begun = {tower: np.empty((steps // length, *held.shape), np.float32) for tower, held in states.items()}
        self._ended: dict[
            tuple[int, int], F32
        ] = {}  # (t, row) -> the value's state after the step that ended an episode

    def step(self, seen: Seen) -> None:
        """Parameters and values of step t; states go on."""
        self._forget(seen.t, starts=seen.starts)
        if seen.t % self._length == 0:
            for tower, held in self.states.items():
                self.begun[tower][seen.t // self._length] = held
        self.parameters[seen.t], actor = self._engines["actor"].step(seen.observations, self.states["actor"])
        values, critic = self._engines["critic"].step(seen.observations, self.states["critic"])
        self._values[seen.t] = values[:, 0]
        self.states = {"actor": actor, "critic": critic}

    def values_of(self, block: Block) -> tuple[F32, F32]:
        """Values (T, B) of the steps, and of what they led to, each with the memory of its own episode."""
        last = len(block.rewards)
        held = self._forgotten(last, starts=block.starts[last])
        critic = self._engines["critic"]
        following = np.concatenate([self._values[1:], critic.step(block.observations[last], held)[0].T])
        if block.final:
            observations = np.stack([end.observation for end in block.final])
            states = np.stack([self._ended[end.t, end.row] for end in block.final])
            found, _ = critic.step(observations, states)
            following[[end.t for end in block.final], [end.row for end in block.final]] = found[:, 0]
        return self._values, following

    def _forget(self, t: int, *, starts: Bool) -> None:
        if starts.any():
            kept = self._forgotten(t, starts=starts)
            actor = self.states["actor"].copy()
            actor[starts] = 0
            self.states = {"actor": actor, "critic": kept}

    def _forgotten(self, t: int, *, starts: Bool) -> F32:
        """The value's states with nothing where an episode starts; what was there may have a final observation to judge."""
        held = self.states["critic"].copy()
        for row in np.flatnonzero(starts):
            self._ended[t - 1, int(row)] = held[row].copy()
        held[starts] = 0
        return held


def _normalised(observations: F32, *, normaliser: programs.Normaliser | None) -> F32:
    """As the engine does, of any shape (..., d)."""
    if normaliser is None:
        return observations
    flat: Any = observations.reshape(-1, observations.shape[-1])
    found = columns.normalise(flat, mean=normaliser.mean, scale=normaliser.std)
    return found.reshape(observations.shape)
