"""PPO's sampler that also estimates costs: an advantage and a value target for each cost and row.

Made by family.py. The request's flat vector is the policy, then each cost's value network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlaas_ray.specs.arrays import F32, F64
from rlaas_ray.train import columns, network
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.lagrangian import critics
from rlaas_ray.train.rollouts import Block, Costs, Rollouts
from rlaas_ray.train.sampler import Sampler, Sampling
from rlaas_ray.train.worlds import Worlds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CostColumns:
    """`Fragment.columns` of this family."""

    columns: Columns
    advantages: F32  # (n, K), of costs
    targets: F32  # (n, K)
    episode_costs: F64  # (episodes, K), sums over whole episodes that ended

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimation:
    """How costs are read and estimated."""

    costs: Costs
    gamma: float
    gae_lambda: float


class CostSampler(Sampler):
    """A Sampler whose fragments carry costs."""

    def __init__(
        self,
        worlds: Worlds,
        *,
        sampling: Sampling,
        shape: network.Shape,
        estimation: Estimation,
        seed: int,
        index: int,
    ) -> None:
        super().__init__(worlds, sampling=sampling, shape=shape, seed=seed, index=index)
        self._estimation = estimation
        self._rollouts = Rollouts(
            worlds, envs=sampling.envs, steps=sampling.steps, seed=seed, index=index, costs=estimation.costs
        )
        self._spent = np.zeros((0, estimation.costs.count))

    def sample(self, request: Request) -> Fragment:
        """One fragment; the base class sees the policy's own part of the vector."""
        size = self._shape.size
        self._critics = critics.views(request.parameters[size:], self._shape, count=self._estimation.costs.count)
        return super().sample(replace(request, parameters=request.parameters[:size]))

    def _finish(
        self, block: Block, *, observations: F32, parameters: F32, policy: network.Network, request: Request
    ) -> Fragment:
        fragment = super()._finish(
            block, observations=observations, parameters=parameters, policy=policy, request=request
        )
        found = [self._estimate(block, k=k, observations=observations) for k in range(self._estimation.costs.count)]
        return replace(
            fragment,
            columns=CostColumns(
                columns=fragment.columns,
                advantages=np.stack([advantages[block.valid] for advantages, _ in found], axis=1),
                targets=np.stack([targets[block.valid] for _, targets in found], axis=1),
                episode_costs=self._episodes(block),
            ),
        )

    def _estimate(self, block: Block, *, k: int, observations: F32) -> tuple[F32, F32]:
        steps, rows = block.rewards.shape
        tower = self._critics[k]
        values = tower.forward(observations.reshape(-1, observations.shape[2]))[:, 0].reshape(steps + 1, rows)
        following = values[1:].copy()
        if block.final:
            last = tower.forward(self._filter(np.stack([end.observation for end in block.final])))[:, 0]
            following[[end.t for end in block.final], [end.row for end in block.final]] = last
        return columns.advantages(
            rewards=np.ascontiguousarray(block.costs[:, :, k]),
            values=values[:-1],
            following=following,
            terminated=block.terminated,
            truncated=block.truncated,
            gamma=self._estimation.gamma,
            gae_lambda=self._estimation.gae_lambda,
        )

    def _episodes(self, block: Block) -> F64:
        """Costs of true episodes that ended in this block, behind a view too; what others have spent so far is carried on."""
        rows = block.rewards.shape[1]
        spent = self._spent if self._spent.shape[0] == rows else np.zeros((rows, self._estimation.costs.count))
        ends, ended = dict(block.ends), []
        for t in range(block.rewards.shape[0]):
            spent = spent + np.where(block.valid[t][:, None], block.costs[t], 0.0)
            if t in ends:
                ended.append(spent[ends[t]])
                spent[ends[t]] = 0.0
        self._spent = spent
        return np.concatenate(ended) if ended else np.zeros((0, self._estimation.costs.count))
