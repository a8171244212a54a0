"""PPO-Lagrangian as a family (Ray, Achiam & Amodei 2019): the policy climbs (A - sum m_k A_k) / (1 + sum m_k).

A multiplier m_k moves by learning_rate * (J_k - limit_k), never below 0, where J_k is the mean cost of the last 100 episodes.
Everything else is PPO's: engine, sampler, checkpoints, export.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.algorithms import LagrangianOptions
from rlaas_ray.specs.arrays import F32, F64
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import columns, hosts, plans, ppo, presets
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.lagrangian import critics
from rlaas_ray.train.lagrangian.critics import Fit
from rlaas_ray.train.lagrangian.sampler import CostColumns, CostSampler, Estimation
from rlaas_ray.train.ledger import WINDOW
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rollouts import Costs
from rlaas_ray.train.seam import Collector, Family, Learning, Parts, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds

_COST_STREAM = 0xC057


@dataclass(frozen=True, slots=True, kw_only=True)
class LagrangianPlan(PpoPlan):
    """PPO's plan, and what costs are."""

    options: LagrangianOptions

    @property
    def costs(self) -> Costs:
        """Where costs are told."""
        return Costs(keys=self.options.cost_keys, count=len(self.options.cost_limits))


class LagrangianLearning(Learning):
    """PPO's learning, value networks of costs, and multipliers."""

    def __init__(self, plan: LagrangianPlan, worlds: Worlds) -> None:
        self._plan = plan
        self._count = plan.costs.count
        self._ppo = ppo.PpoLearning(plan, worlds)
        shape = presets.shape_of(plan, worlds)
        rng = np.random.default_rng(np.random.SeedSequence([plan.seed, _COST_STREAM]))
        self._fit = Fit(critics.initial(shape, count=self._count, rng=rng), shape=shape, count=self._count)
        self._multipliers = np.full(self._count, plan.options.multiplier_initial)
        self._recent: deque[F64] = deque(maxlen=WINDOW)
        self._updates = 0

    def parameters(self) -> F32:
        """The policy, then the costs' value networks."""
        return np.concatenate([self._ppo.parameters(), self._fit.state.parameters.numpy()])

    def learn(self, fragments: Sequence[Fragment], *, situation: Situation) -> dict[str, float]:
        """Multipliers first, from episodes that ended; then the policy and the costs' values."""
        shares: list[CostColumns] = [fragment.columns for fragment in fragments]
        self._move(shares)
        stats = self._ppo.learn([self._mixed(fragment) for fragment in fragments], situation=situation)
        if not stats:
            return {}  # observations without statistics: only the first fragments
        return {**stats, "cost_vf_loss": self._fit_costs(shares, situation=situation), **self._told()}

    def state(self) -> State:
        """A copy of everything."""
        costs = ppo.to_state(self._fit.state.weights(updates=self._updates))
        return {
            **self._ppo.state(),
            **{f"costs.{name}": array for name, array in costs.items()},
            "multipliers": self._multipliers.copy(),
            "recent_costs": np.array(self._recent).reshape(-1, self._count),
        }

    def load_state(self, state: State) -> None:
        """The inverse."""
        self._ppo.load_state({name: array for name, array in state.items() if not name.startswith("costs.")})
        own = {name.removeprefix("costs."): array for name, array in state.items() if name.startswith("costs.")}
        weights = ppo.from_state(own, like=self._fit.state.parameters.numpy())
        self._fit.state.set_weights(weights)
        self._updates = weights.updates
        self._multipliers = state["multipliers"].astype(np.float64)
        self._recent = deque(state["recent_costs"].astype(np.float64), maxlen=WINDOW)

    def policies(self, *, observations: Moments) -> Mapping[str, Trained]:
        """PPO's."""
        return self._ppo.policies(observations=observations)

    def _move(self, shares: Sequence[CostColumns]) -> None:
        fresh = [row for share in shares for row in share.episode_costs]
        self._recent.extend(fresh)
        if fresh:
            options = self._plan.options
            over = np.mean(self._recent, axis=0) - np.asarray(options.cost_limits)
            moved = self._multipliers + options.multiplier_learning_rate * over
            self._multipliers = np.clip(moved, 0.0, options.multiplier_max)

    def _mixed(self, fragment: Fragment) -> Fragment:
        share: CostColumns = fragment.columns
        weights = self._multipliers.astype(np.float32)
        advantages = (share.columns.advantages - share.advantages @ weights) / (1 + weights.sum())
        return replace(fragment, columns=replace(share.columns, advantages=advantages))

    def _fit_costs(self, shares: Sequence[CostColumns], *, situation: Situation) -> float:
        observations = columns.join([share.columns for share in shares]).observations
        targets = np.concatenate([share.targets for share in shares])
        plan = self._plan
        rate = plans.linear(plan.learning_rate, plan.learning_rate_final, used=situation.used)
        rng = np.random.default_rng(np.random.SeedSequence([plan.seed, _COST_STREAM, self._updates]))
        count = max(1, round(len(targets) / plan.minibatch_size))
        losses = [
            self._fit.step(observations[rows], targets=targets[rows], learning_rate=rate)
            for _ in range(plan.epochs)
            for rows in np.array_split(rng.permutation(len(targets)), count)
        ]
        self._updates += 1
        return float(np.mean(losses[-count:]))

    def _told(self) -> dict[str, float]:
        means = np.mean(self._recent, axis=0) if self._recent else np.full(self._count, np.nan)
        found = {f"multiplier/{k}": float(m) for k, m in enumerate(self._multipliers)}
        return found | {f"episode_cost_mean/{k}": float(c) for k, c in enumerate(means) if np.isfinite(c)}


def collector(plan: LagrangianPlan, worlds: Worlds, *, index: int) -> Collector:
    """The sampler of runner `index`."""
    return CostSampler(
        worlds,
        sampling=presets.sampling_of(plan),
        shape=presets.shape_of(plan, worlds),
        estimation=Estimation(costs=plan.costs, gamma=plan.options.cost_gamma, gae_lambda=plan.options.cost_gae_lambda),
        seed=plan.seed,
        index=index,
    )


def resolve(spec: TrainSpec, worlds: Worlds) -> LagrangianPlan:
    """PPO's plan with unscaled rewards: a multiplier weighs a cost against rewards as they are."""
    options = LagrangianOptions.model_validate(spec.options)
    if worlds.units > 1:
        raise InvalidInput(
            "ppo_lagrangian on a shared view",
            given=spec.env,
            expected="view: flat",
            cure="Costs are of whole envs: set `view: flat`.",
        )
    plan = ppo.resolve(spec, worlds)
    fields = {name: getattr(plan, name) for name in PpoPlan.__dataclass_fields__}
    return LagrangianPlan(**{**fields, "scale_rewards": False, "options": options})


PARTS: Parts[LagrangianPlan] = Parts(collector=collector, learning=LagrangianLearning)
FAMILY: Family[LagrangianPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
