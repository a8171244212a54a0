"""Multi-agent PPO as a family: a PPO learning for each policy, side by side; one bundle for each.

Found by families.py when a spec says `multi_agent`. Checkpoints hold every policy's arrays under its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, hosts, ppo, presets
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.multi_agent.sampler import AgentSampler, Payload, Sampling
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.seam import Collector, Family, Learning, Parts, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan(PpoPlan):
    """PPO's plan; the same numbers for every policy."""


class AgentLearning(Learning):
    """A PPO learning and running statistics for each policy."""

    def __init__(self, plan: AgentPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._sampling = sampling_of(plan, worlds)
        self._learnings = {
            group.policy: ppo.PpoLearning(replace(plan, seed=plan.seed + number), worlds.of_group(group))
            for number, group in enumerate(worlds.groups)
        }
        self._seen = {name: columns.no_moments(shape.inputs) for name, shape in self._sampling.shapes.items()}

    def parameters(self) -> F32:
        """Of each policy in turn: network, mean, scale."""
        parts: list[F32] = []
        for name, learning in self._learnings.items():
            mean, scale = columns.scale_of(self._seen[name])
            # Before the first statistics observations are as they come.
            parts += [learning.parameters(), mean, scale if self._seen[name].count else np.ones_like(scale)]
        return np.concatenate(parts)

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """One PPO update of each policy; the mean of their statistics, and the agents' own returns."""
        told: list[dict[str, float]] = []
        for name, learning in self._learnings.items():
            shares = [_payload(fragment).shares[name] for fragment in fragments]
            first = self._plan.normalise_observations and self._seen[name].count == 0
            for share in shares:
                self._seen[name] = columns.merge(self._seen[name], share.observations)
            whole = [
                replace(fragment, columns=share.columns)
                for fragment, share in zip(fragments, shares, strict=True)
                if share.columns is not None
            ]
            if whole:
                told.append(learning.learn(whole, situation=replace(situation, unnormalised=first)))
        stats = [stats for stats in told if stats]
        found = {key: float(np.mean([one[key] for one in stats])) for key in (stats[0] if stats else {})}
        return {**found, **_agent_returns(fragments)}

    def state(self) -> State:
        """Every policy's arrays and statistics, under its name."""
        found: dict[str, Array] = {}
        for name, learning in self._learnings.items():
            found |= {f"{name}/{key}": array for key, array in learning.state().items()}
            seen = self._seen[name]
            found[f"{name}/seen"] = np.concatenate([[seen.count], seen.mean, seen.deviations])
        return found

    def load_state(self, state: State) -> None:
        """The inverse of `state`."""
        for name, learning in self._learnings.items():
            own = {key.removeprefix(f"{name}/"): array for key, array in state.items() if key.startswith(f"{name}/")}
            learning.load_state(own)
            seen = own["seen"].astype(np.float64)
            width = (len(seen) - 1) // 2
            self._seen[name] = Moments(count=float(seen[0]), mean=seen[1 : 1 + width], deviations=seen[1 + width :])

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """One for each policy."""
        return {
            name: learning.policies(observations=self._seen[name])[""] for name, learning in self._learnings.items()
        }


def _payload(fragment: Fragment) -> Payload:
    payload: Payload = fragment.columns
    return payload


def _agent_returns(fragments: Sequence[Fragment]) -> dict[str, float]:
    """`agent_return_mean/NAME` of the episodes that ended in these fragments."""
    earned: dict[str, list[float]] = {}
    for fragment in fragments:
        for agent, returns in _payload(fragment).agent_returns.items():
            earned.setdefault(agent, []).extend(returns)
    return {f"agent_return_mean/{agent}": float(np.mean(returns)) for agent, returns in earned.items()}


def sampling_of(plan: AgentPlan, worlds: Worlds) -> Sampling:
    """What each runner collects."""
    return Sampling(
        envs=plan.envs,
        steps=plan.steps,
        gamma=plan.gamma,
        gae_lambda=plan.gae_lambda,
        normalise_observations=plan.normalise_observations,
        shapes={group.policy: presets.shape_of(plan, worlds.of_group(group)) for group in worlds.groups},
    )


def collector(plan: AgentPlan, worlds: Worlds, *, index: int) -> Collector:
    """The sampler of runner `index`."""
    return AgentSampler(worlds, sampling=sampling_of(plan, worlds), seed=plan.seed, index=index)


def resolve(spec: TrainSpec, worlds: Worlds) -> AgentPlan:
    """PPO's plan for the first policy's kind of action; rewards are not scaled."""
    if spec.algorithm != "ppo":
        raise NotBuilt(f"multi_agent with {spec.algorithm}", expected="algorithm: ppo", cure="Leave algorithm out.")
    if spec.num_learners > 1:
        raise NotBuilt("multi_agent with several learners", expected="num_learners: 0 or 1", cure="Leave it out.")
    if not worlds.groups:
        raise InvalidInput("multi_agent", given=spec.env, expected="an env with several agents")
    plan = presets.resolve(spec, action_space=worlds.groups[0].action_space)
    fields = {name: getattr(plan, name) for name in PpoPlan.__dataclass_fields__}
    return AgentPlan(**{**fields, "scale_rewards": False})


PARTS: Parts[AgentPlan] = Parts(collector=collector, learning=AgentLearning)
FAMILY: Family[AgentPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
