"""The default way to train a user's algorithm: sample steps with its choose_action, hand them to its update.

Built by family.py over hosts.InProcess: one object is collector and learning, for a user's algorithm is both. Never unpickles.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train import columns, hosts
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.rollouts import Block, Rollouts, Seen
from rlaas_ray.train.seam import Build, Collector, Learning, Parts, Situation, State, Trained
from rlaas_ray.train.unexported import Decider, Unexported
from rlaas_ray.train.user import calls, policy
from rlaas_ray.train.user.plans import UserPlan
from rlaas_ray.train.user.protocol import ActionOut, Steps, UserAlgorithm
from rlaas_ray.train.worlds import Worlds


class Together(Collector, Learning):
    """A user's algorithm between rollouts and the run."""

    def __init__(self, algorithm: UserAlgorithm, *, plan: UserPlan, worlds: Worlds) -> None:
        self.algorithm = algorithm
        self._plan = plan
        self._worlds = worlds
        self._rollouts = Rollouts(worlds, envs=plan.envs, steps=plan.steps, seed=plan.seed, index=0)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """T steps by choose_action."""
        self._rollouts.open(request.iteration)
        told: list[ActionOut] = []

        def act(seen: Seen) -> Array:
            out, proposed = policy.chosen(
                self.algorithm,
                seen.observations.copy(),  # theirs to keep
                explore=True,
                mask=seen.mask,
                worlds=self._worlds,
                target=self._plan.target,
            )
            told.append(out)
            return proposed

        discrete = not isinstance(self._worlds.action_space, gymnasium.spaces.Box)
        entries = spaces.action_size(self._worlds.action_space)
        block = self._rollouts.collect(act, entries=entries, discrete=discrete)
        return self._fragment(block, told=told)

    def close(self) -> None:
        """Release the env."""
        self._rollouts.close()

    def parameters(self) -> F32:
        """None travel: there is one process."""
        return np.empty(0, dtype=np.float32)

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """Its update, once for each fragment."""
        stats: dict[str, float] = {}
        for fragment in fragments:
            with calls.theirs(self._plan.target, "update"):
                stats = calls.numbers(self.algorithm.update(fragment.columns) or {})
        return stats

    def state(self) -> State:
        """A copy of its arrays."""
        with calls.theirs(self._plan.target, "state"):
            return calls.arrays(self.algorithm.state(), target=self._plan.target)

    def load_state(self, state: State) -> None:
        """Its own inverse."""
        with calls.theirs(self._plan.target, "load_state"):
            self.algorithm.load_state(state)

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """The policy that it offers, if it does."""
        return policy.offered(self.algorithm, worlds=self._worlds, target=self._plan.target)

    def _fragment(self, block: Block, *, told: Sequence[ActionOut]) -> Fragment:
        cpu = time.process_time()
        fragment = Fragment(
            columns=steps_of(block, told=told, target=self._plan.target),
            observations=columns.no_moments(block.observations.shape[2]),
            returns=columns.no_moments(1),
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=int(block.valid.sum()),
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment


class Looped(hosts.InProcess, Unexported):
    """The Trainer."""

    def __init__(self, algorithm: UserAlgorithm, given: Build[UserPlan]) -> None:
        self._together = Together(algorithm, plan=given.plan, worlds=given.worlds)
        self._given = given
        super().__init__(Parts(collector=self._collector_of, learning=self._learning_of), given)

    @property
    def algorithm(self) -> UserAlgorithm:
        """The user's own."""
        return self._together.algorithm

    def decider(self) -> Decider:
        """Its own choose_action."""
        plan = self._given.plan
        explore = plan.serving == "sample"
        return policy.Batched(self._together.algorithm, self._given.worlds, explore=explore, target=plan.target)

    def told(self) -> dict[str, Any]:
        """Why there is no bundle."""
        return {"bundle_missing": policy.missing(self._given.plan.target)}

    def _collector_of(self, plan: UserPlan, worlds: Worlds, *, index: int) -> Collector:
        return self._together

    def _learning_of(self, plan: UserPlan, worlds: Worlds) -> Learning:
        return self._together


def steps_of(block: Block, *, told: Sequence[ActionOut], target: str) -> Steps:
    """What `update` gets."""
    leading = block.rewards.shape
    logp, dist = (
        None
        if any(getattr(out, name) is None for out in told)
        else calls.column([getattr(out, name) for out in told], like=leading, name=name, target=target)
        for name in ("logp", "dist")
    )
    return Steps(
        observations=block.observations[:-1],
        actions=block.actions,
        rewards=block.rewards,
        next_observations=block.following(),
        terminated=block.terminated,
        truncated=block.truncated,
        valid=block.valid,
        masks=None if block.masks is None else block.masks[:-1],
        next_masks=block.following_masks(),
        logp=logp,
        dist=dist,
    )
