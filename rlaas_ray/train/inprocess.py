"""PPO in one process, without Ray: the same sampler, the same engine, the same loop as rllib/algorithm.py.

Used by runner.py when a spec says num_env_runners: 0 (and num_learners: 0): no cluster to start, nothing to import but torch.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import numpy as np

from rlaas_ray.errors import RlaasError
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, autograd, heads, ledger, network, presets
from rlaas_ray.train.analytic import Schedule, Weights
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.iteration import Iterations, Trainer
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.presets import Plan
from rlaas_ray.train.sampler import Fragment, Request, Sampler, failed
from rlaas_ray.train.worlds import Worlds


class InProcess(Trainer):
    """A Trainer without actors."""

    def __init__(self, plan: Plan, worlds: Worlds, *, slice_s: float) -> None:
        shape = presets.shape_of(plan, worlds)
        head = heads.head_of(worlds.action_space)
        loss = presets.loss_of(plan)
        self._seed = plan.seed
        self._slice_s = slice_s
        self._sampler = Sampler(worlds, sampling=presets.sampling_of(plan), shape=shape, seed=plan.seed, index=0)
        flat = network.initial(
            shape,
            rng=np.random.default_rng(plan.seed),
            policy_gain=plan.policy_gain,
            log_std=plan.log_std_initial,
        )
        self._state = analytic.fresh_state(flat)
        autograd.certify(self._state, shape=shape, head=head, loss=loss, rng=np.random.default_rng(plan.seed))
        self._engine = analytic.Analytic(self._state, shape=shape, head=head, loss=loss)
        self._updates = 0
        self._loop = Iterations(
            plan, ledger=ledger.new(shape.inputs), parameters=flat, collect=self._collect, learn=self._learn
        )

    @property
    def loop(self) -> Iterations:
        return self._loop

    def train(self) -> None:
        """Iterations for a slice of time."""
        self._loop.run(slice_s=self._slice_s)

    def weights(self) -> Weights:
        """A copy of everything."""
        return self._state.weights(updates=self._updates)

    def go_on_from(self, weights: Weights, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        self._state.set_weights(weights)
        self._updates = weights.updates
        self._loop.ledger = ledger
        self._loop.parameters = weights.parameters

    def stop(self) -> None:
        """Release the envs."""
        self._sampler.close()

    def _collect(self, request: Request) -> Sequence[Fragment]:
        try:
            return [self._sampler.sample(request)]
        except RlaasError:
            raise
        except Exception:  # noqa: BLE001  # whatever an env raises: the loop decides whether the run goes on
            self._sampler.close()
            return [failed(self._loop.ledger.observations, reason=traceback.format_exc())]

    def _learn(self, batch: Columns, schedule: Schedule) -> tuple[F32, dict[str, float]]:
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, self._updates]))
        stats = self._engine.update(batch, schedule=schedule, rng=rng)
        self._updates += 1
        return self._state.parameters.numpy(), stats
