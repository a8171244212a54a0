"""The stream agent lives episodes of many dataflows at once, keeps what it lived through, and learns between the steps.

Built by family.py. Candidates are made offline. The policy is more than a network (a generator proposes, a rule breaks ties), so
there is no bundle: the run gives the agent's own file, is evaluated as it is, and says so.

`B` envs, `k` candidates, `n` operators.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.policies import spaces
from rlaas_ray.policies.lastream import agent as agents
from rlaas_ray.policies.lastream import generators
from rlaas_ray.policies.lastream.operators import Operators
from rlaas_ray.policies.loaded import Drawn
from rlaas_ray.specs.arrays import F32, F64, I64, Bool
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train import plans
from rlaas_ray.train.lastream import flows
from rlaas_ray.train.lastream.plan import LastreamPlan
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.seam import Build, State, Trained, Trainer
from rlaas_ray.train.unexported import Decider, Unexported
from rlaas_ray.train.user.counting import CountedVector, Tally
from rlaas_ray.train.worlds import Worlds

FOLLOWING = 5  # candidates that stand for what may follow: DS2's scheme, the one in force, DS2's multiples
MODEL, REPLAY = "agent.safetensors", "replay.parquet"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choice:
    """What B dataflows are told to keep for a while: candidates (B, k, n), the schemes (B, n) taken, predicted rewards (B,)."""

    told: Operators
    candidates: I64
    schemes: I64
    propensities: F64
    predicted: F64


class LastreamTrainer(Trainer, Unexported):
    """A scheme is kept for `keep` steps: a restart must have time to pay. Each of them is a transition to the next choice."""

    def __init__(self, given: Build[LastreamPlan]) -> None:
        self._given, self._plan = given, given.plan
        self._flows = flows.of(given.worlds)
        self.agent = made(self._plan, flow=self._flows)
        self._rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, 1]))
        self._tally, self._ledger = Tally(width=0), ledgers.new(0)
        self._stats: dict[str, float] = {}
        self._env: CountedVector | None = None
        self._choice: _Choice | None = None
        self._lines: list[dict[str, Any]] = []
        self._first: float | None = None

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self._stats

    def train(self) -> None:
        """Choices for a slice of time; one at least."""
        started = time.monotonic()
        if self._env is None:
            self._begin()
        while True:
            self._live()
            fragment = self._tally.drained()
            self._ledger.absorb([fragment])
            self._ledger.cpu_s += fragment.cpu_s
            self._ledger.iteration += 1
            over = ledgers.finished(self._ledger, plan=self._plan)
            if over or time.monotonic() - started >= self._given.slice_s:
                return

    def episodes(self) -> Sequence[Mapping[str, Any]]:
        """Those that ended since the last call: number, scheme at the end, predicted value, reward, throughput, gain."""
        found, self._lines = self._lines, []
        return found

    def state(self) -> State:
        """The agent; its replay begins anew in a resumed run."""
        first = np.array([np.nan if self._first is None else self._first])
        return {**self.agent.state(), "first": first}

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Go on from a checkpoint, with other episodes than those lived before it."""
        self.agent.load_state(state)
        first = float(np.asarray(state["first"], dtype=np.float64)[0])
        self._first = None if np.isnan(first) else first
        self._ledger = ledger
        self._rng = np.random.default_rng(np.random.SeedSequence([self._plan.seed, 1, ledger.iteration]))
        self.stop()

    def policies(self) -> Mapping[str, Trained]:
        """None: a bundle has no place for a generator."""
        return {}

    def decider(self) -> Decider:
        """The agent, without exploration."""
        return Deciding(self.agent, flow=self._flows, worlds=self._given.worlds, plan=self._plan)

    def told(self) -> dict[str, Any]:
        """Why there is no bundle, and the agent's files with their SHA-256, below the run's folder."""
        folder = self._given.directory
        self.agent.save_model(folder / MODEL)
        self.agent.replay.save(folder / REPLAY)
        files = [Path(folder / name) for name in (MODEL, REPLAY)]
        return {
            "bundle_missing": "A generator proposes before the network decides, which no bundle holds. The agent's own file goes "
            "on in StreamProcessingRLAgent(pretrained_model_path=...): docs/stream-agent.md.",
            "files": {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        }

    def stop(self) -> None:
        """Release the envs."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _begin(self) -> None:
        plan = self._plan
        seed = plan.seed
        if self._ledger.iteration:
            seed = int(np.random.SeedSequence([plan.seed, self._ledger.iteration]).generate_state(1)[0] >> 1)
        self._env = CountedVector(self._given.worlds, envs=plan.envs, seed=seed, tally=self._tally)
        self._choice = self._chosen(self._flows.told(self._restarted(seed=seed)))

    def _restarted(self, *, seed: int | None = None) -> F32:
        assert self._env is not None
        self._sums = np.zeros(
            (4, self._plan.envs)
        )  # steps, rewards, throughput, predicted values of the running episodes
        return self._env.reset(seed=seed)[0]

    def _live(self) -> None:
        """Keep what was chosen, remember it, choose again, learn."""
        choice, env, plan = self._choice, self._env, self._plan
        assert choice is not None
        assert env is not None
        seen, told, rewards, ended = None, [choice.told], [], False
        for _ in range(plan.keep):
            seen, earned, terminated, truncated, info = env.step(self._flows.proposed(choice.schemes))
            rewards.append(np.asarray(earned, dtype=np.float64))
            throughput = 1.0 - np.asarray(info["objectives"], dtype=np.float64)[:, 0]
            self._sums += np.stack([np.ones(plan.envs), rewards[-1], throughput, choice.predicted])
            told.append(self._flows.told(seen))
            done = np.asarray(terminated) | np.asarray(truncated)
            ended = bool(done.any())
            if ended:
                assert done.all()  # dataflows are cut after the same number of steps, and never end by themselves
                break
        following = self._chosen(told[-1])
        self._keep(choice, told=told, rewards=np.stack(rewards), following=following.candidates[:, :FOLLOWING])
        self.agent.scale.take(np.concatenate(rewards))
        if ended:
            self._tell(choice.schemes)
            following = self._chosen(self._flows.told(self._restarted()))
        self._choice = following
        if len(self.agent.replay) >= plan.learning_starts:
            self._stats |= self.agent.learn(batch_size=plan.batch_size, updates=plan.updates)

    def _chosen(self, told: Operators) -> _Choice:
        plan = self._plan
        candidates = generators.propose_many(told, plan.candidates, rng=self._rng)
        values = self.agent.values(told, candidates)
        used = ledgers.fraction(self._ledger, plan=plan)
        temperature = plans.linear(plan.temperature_initial, plan.temperature_final, used=used)
        self._stats["temperature"] = temperature
        taken, propensities = _drawn(values, candidates, temperature=temperature, rng=self._rng)
        rows = np.arange(len(taken))
        return _Choice(
            told=told,
            candidates=candidates,
            schemes=candidates[rows, taken],
            propensities=propensities,
            predicted=values[rows, taken] * self.agent.scale.deviation + self.agent.scale.mean,
        )

    def _keep(self, choice: _Choice, *, told: Sequence[Operators], rewards: F64, following: I64) -> None:
        """Each step (m, B) of a choice as a transition to the state after its last: the scheme was kept from there on."""
        td, gamma = self._plan.horizon == "td", self._plan.gamma
        earned = np.zeros(len(choice.schemes))
        for back, reward in enumerate(rewards[::-1]):
            number = len(rewards) - 1 - back
            earned = (1.0 - gamma) * reward + gamma * earned if td else (reward + back * earned) / (back + 1)
            self.agent.remember(
                told[number],
                choice.schemes,
                rewards=earned,
                discounts=np.full(len(earned), gamma ** (back + 1) if td else 0.0),
                after=(told[-1], following),
                propensities=choice.propensities if number == 0 else np.ones(len(earned)),
            )

    def _tell(self, schemes: I64) -> None:
        for row, (steps, rewards, throughput, predicted) in enumerate(self._sums.T):
            reward = float(rewards / steps)
            self._first = reward if self._first is None else self._first
            line = {
                "predicted_value": float(predicted / steps),
                "reward": reward,
                "throughput": float(throughput / steps),
                "gain": reward - self._first,
            }
            self._stats |= line
            number = self._ledger.episodes + row + 1
            self._lines.append({"episode": number, "scheme": (self._flows.proposed(schemes[row]) + 1).tolist(), **line})


class Deciding:
    """The agent as evaluation asks it, on encoded rows: a scheme is kept as in training; the state is how long yet, and what."""

    def __init__(self, agent: agents.StreamAgent, *, flow: flows.Flows, worlds: Worlds, plan: LastreamPlan) -> None:
        self._agent, self._flows, self._worlds = agent, flow, worlds
        self._candidates, self._keep = plan.candidates, plan.keep

    @property
    def action_space(self) -> spaces.Space:
        """Of one env."""
        return self._worlds.action_space

    def encode(self, observations: Any) -> F32:
        """Raw batch -> (B, d)."""
        return self._worlds.encode(observations)

    def action_mask(self, observations: Any) -> Bool | None:
        """None: proposals keep to the slots that there are."""
        return None

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn:
        """The best candidate for each row, or what it keeps."""
        told = self._flows.told(encoded)
        candidates = generators.propose_many(told, self._candidates, rng=rng)
        values = self._agent.values(told, candidates)
        taken = [agents.best(one, schemes) for one, schemes in zip(values, candidates, strict=True)]
        proposed = self._flows.proposed(candidates[np.arange(len(taken)), taken]).astype(np.float64)
        left = np.zeros(len(taken), dtype=np.float32)
        if state is not None:
            left = state[:, 0]
            proposed = np.where(left[:, None] > 0, state[:, 1:], proposed)
        after = np.where(left > 0, left - 1, self._keep - 1)
        return Drawn(
            action_proposed=proposed,
            action=proposed,
            propensity=np.ones(len(taken)),
            probabilities=None,
            state=np.concatenate([after[:, None], proposed], axis=1).astype(np.float32),
        )


def made(plan: LastreamPlan, *, flow: flows.Flows) -> agents.StreamAgent:
    """An agent for this dataflow."""
    return agents.StreamAgent(
        max_parallelism=flow.flow.max_parallelism,
        gcn_config={"dropout": plan.gcn_dropout},
        action_evaluator_config={
            "max_operators": max(10, len(flow.flow.operators)),
            "dropout": plan.dropout,
            "learning_rate": plan.learning_rate,
            "horizon": plan.horizon,
            "gamma": plan.gamma,
            "target_every": plan.target_every,
            "candidates": min(FOLLOWING, plan.candidates),
        },
        experience_buffer_size=plan.buffer_size,
        seed=plan.seed,
    )


def _drawn(values: F64, candidates: I64, *, temperature: float, rng: np.random.Generator) -> tuple[I64, F64]:
    """Rows taken (B,) by softmax over distinct candidates, and the probability of each scheme that was taken."""
    taken, propensities = np.empty(len(values), dtype=np.int64), np.empty(len(values))
    for row, (own, schemes) in enumerate(zip(values, candidates, strict=True)):
        probabilities = agents.softmax(own, schemes, temperature=temperature)
        taken[row] = rng.choice(len(own), p=probabilities)
        propensities[row] = probabilities[(schemes == schemes[taken[row]]).all(axis=1)].sum()
    return taken, propensities
