"""Algorithms that sample for themselves: a `train(env, budget)` of the protocol, or a plain agent's `train(episodes)`.

Built by family.py. The env that they are handed counts; between two of their yields a run reports, saves and may stop.
"""

from __future__ import annotations

import abc
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import registry
from rlaas_ray.errors import NotBuilt, WorkFailed
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.seam import Build, State, Trained, Trainer
from rlaas_ray.train.unexported import Decider, Unexported
from rlaas_ray.train.user import calls, policy
from rlaas_ray.train.user.counting import CountedEnv, CountedVector, Tally
from rlaas_ray.train.user.plain import OneByOne, PlainAgent, write_files
from rlaas_ray.train.user.plans import UserPlan
from rlaas_ray.train.user.protocol import Budget

FILES = "agent"


class Driven(Trainer, abc.ABC):
    """Takes one yield after another, and counts what the env saw between them."""

    def __init__(self, given: Build[UserPlan], *, tally: Tally) -> None:
        self._given = given
        self._tally = tally
        self._ledger = ledgers.new(0)
        self._stats: Mapping[str, float] = {}
        self._going: Iterator[Mapping[str, float]] | None = None

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self._stats

    def train(self) -> None:
        """Yields for a slice of time; one at least."""
        started = time.monotonic()
        while True:
            self._once()
            if ledgers.finished(self._ledger, plan=self._given.plan) or (
                time.monotonic() - started >= self._given.slice_s
            ):
                return

    @abc.abstractmethod
    def begin(self) -> Iterator[Mapping[str, float]]:
        """A new iterator over what is left of the budget."""

    def used(self) -> float:
        """Of the budget, as of now."""
        plan, tally, done = self._given.plan, self._tally, self._ledger
        counted = (
            (done.steps + tally.steps, plan.total_timesteps),
            (done.episodes + len(tally.returns), plan.total_episodes),
            (done.cpu_s + tally.cpu_s(), plan.time_limit_cpu_s),
        )
        return min(1.0, max((have / limit for have, limit in counted if limit is not None), default=0.0))

    def _once(self) -> None:
        if self._going is None:
            self._going = self.begin()
        with calls.theirs(self._given.plan.target, "train"):
            stats = next(self._going, None)
        fragment = self._tally.drained()
        self._ledger.absorb([fragment])
        self._ledger.cpu_s += fragment.cpu_s
        self._ledger.iteration += 1
        if stats is not None:
            self._stats = calls.numbers(stats)
            return
        self._going = None
        if fragment.steps == 0:
            raise WorkFailed(
                f"train of {self._given.plan.target} ended",
                given=f"{self._ledger.steps} steps, {self._ledger.episodes} episodes, no step since its last call",
                expected="steps of the env until the budget is used",
                cure="Look at the budget that it is handed: used() is 1 when it may end.",
            )


class OwnLoopTrainer(Driven, Unexported):
    """`train(env, budget)` of the protocol."""

    def __init__(self, algorithm: Any, given: Build[UserPlan]) -> None:
        if given.worlds.shared:
            raise NotBuilt(
                f"train(env, budget) of {given.plan.target} in a shared view",
                cure="Add `view: flat` to the spec, or leave train out and give choose_action and update.",
            )
        super().__init__(given, tally=Tally(width=0))
        self.algorithm = algorithm
        self._env: CountedVector | None = None

    def begin(self) -> Iterator[Mapping[str, float]]:
        """Its train, with a new env: a resumed run must not live the same episodes again."""
        plan = self._given.plan
        self.stop()
        seed = plan.seed
        if self._ledger.iteration:
            seed = int(np.random.SeedSequence([plan.seed, self._ledger.iteration]).generate_state(1)[0] >> 1)
        self._env = CountedVector(self._given.worlds, envs=plan.envs, seed=seed, tally=self._tally)
        budget = Budget(total_timesteps=plan.total_timesteps, total_episodes=plan.total_episodes, used=self.used)
        with calls.theirs(plan.target, "train"):
            return iter(self.algorithm.train(self._env, budget))

    def state(self) -> State:
        """A copy of its arrays."""
        with calls.theirs(self._given.plan.target, "state"):
            return calls.arrays(self.algorithm.state(), target=self._given.plan.target)

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Its own inverse."""
        with calls.theirs(self._given.plan.target, "load_state"):
            self.algorithm.load_state(state)
        self._ledger, self._going = ledger, None

    def policies(self) -> Mapping[str, Trained]:
        """The policy that it offers, if it does."""
        return policy.offered(self.algorithm, worlds=self._given.worlds, target=self._given.plan.target)

    def decider(self) -> Decider:
        """Its own choose_action."""
        plan = self._given.plan
        return policy.Batched(self.algorithm, self._given.worlds, explore=plan.serving == "sample", target=plan.target)

    def told(self) -> dict[str, Any]:
        """Why there is no bundle."""
        return {"bundle_missing": policy.missing(self._given.plan.target)}

    def stop(self) -> None:
        """Release the envs."""
        if self._env is not None:
            self._env.close()
            self._env = None


class PlainTrainer(Driven, Unexported):
    """`train(episodes)` of a plain agent, called again and again with few."""

    def __init__(self, kind: type[Any], given: Build[UserPlan]) -> None:
        super().__init__(given, tally=Tally(width=0))
        plan, worlds = given.plan, given.worlds
        made = registry.make(plan.env, mode=worlds.mode, weights=worlds.weights, config=worlds.config)
        self._env = CountedEnv(made, tally=self._tally, seed=plan.seed)
        self.agent = PlainAgent(kind, env=self._env, config=plan.config, seed=plan.seed, target=plan.target)

    def begin(self) -> Iterator[Mapping[str, float]]:
        return self.agent.chunks(episodes=self._given.plan.chunk)

    def state(self) -> State:
        """The files that it saves, as they are."""
        return self.agent.state()

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Its own files, read by its own code."""
        self.agent.load_state(state)
        self._ledger, self._going = ledger, None
        self._env.reseed(
            int(np.random.SeedSequence([self._given.plan.seed, ledger.iteration]).generate_state(1)[0] >> 1)
        )

    def policies(self) -> Mapping[str, Trained]:
        """None: what it computes is known to nobody else."""
        return {}

    def decider(self) -> Decider:
        """Its own choose_action, one observation at a time."""
        return OneByOne(self.agent)

    def told(self) -> dict[str, Any]:
        """Why there is no bundle, and the agent's files with their SHA-256, below the run's folder."""
        folder = self._given.directory / FILES
        files = write_files(self.agent.state(), folder=folder)
        return {
            "bundle_missing": "A plain agent's model is known to its own code alone. Written against the protocol, with "
            "policy(), it can be served: docs/own-algorithm.md shows how.",
            "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        }

    def stop(self) -> None:
        """Release the env."""
        self._env.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
