"""ColumnarLearner: PPOTorchLearner whose `update` is a lean loop over columns; in the driver's process or as Ray actors.

Made by RLlib's LearnerGroup. Its registered torch Adam still owns the optimiser's state: parameters, gradients and moments are
views into flat tensors that the engine works on, so RLlib's state dicts stay true. Never calls a connector.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner  # noqa: TID251
from ray.rllib.core import DEFAULT_MODULE_ID  # noqa: TID251
from ray.rllib.core.columns import Columns as Names  # noqa: TID251
from ray.rllib.evaluation.postprocessing import Postprocessing  # noqa: TID251
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch  # noqa: TID251

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import analytic, autograd, heads, network, presets, threads
from rlaas_ray.train.analytic import FlatState, Schedule, Weights
from rlaas_ray.train.columns import Columns


class ColumnarLearner(PPOTorchLearner):
    """`update(batch=...)` takes what `to_batch` makes, and `schedule`."""

    def build(self) -> None:
        """RLlib's build; then the flat memory and a certified engine."""
        super().build()
        if self.config.num_learners > 0:
            threads.use_one()
        plan = self.config.plan
        self._shape: network.Shape = self.config.shape
        self._head = heads.head_of(self.config.worlds.action_space)
        self._loss = presets.loss_of(plan)
        self._updates = 0
        self._cpu_before = time.process_time()
        self._adopt()
        self.certified = autograd.certify(
            self._flat, shape=self._shape, head=self._head, loss=self._loss, rng=np.random.default_rng(plan.seed)
        )

    def update(self, *, training_data: Any = None, batch: Any = None, schedule: Schedule, **kwargs: Any) -> Any:
        """All epochs over one batch of columns; RLlib's hooks around them are called as its own loop does."""
        timesteps = kwargs.get("timesteps") or {}
        self.before_gradient_based_update(timesteps=timesteps)
        given = batch if training_data is None else training_data.batch
        if not self._bound():
            self._adopt()
        self._weights_seq_no += 1
        # A new generator for each update: a resumed run permutes as an uninterrupted one would.
        rng = np.random.default_rng(np.random.SeedSequence([self.config.plan.seed, self._updates]))
        stats = self._engine.update(
            from_batch(given), schedule=schedule, rng=rng, all_reduce=_average if self.config.num_learners > 1 else None
        )
        self._updates += 1
        self._optimiser.param_groups[0]["lr"] = schedule.learning_rate
        cpu = time.process_time()
        self._cpu_s = cpu - self._cpu_before
        self._cpu_before = cpu
        for name, value in stats.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, name), value, window=1)
        self._stats = stats
        self.after_gradient_based_update(timesteps=timesteps)
        return self.metrics.reduce()

    def weights(self) -> Weights:
        """A copy of everything."""
        return self._flat.weights(updates=self._updates)

    def after_update(self) -> tuple[F32, dict[str, float], float]:
        """What sampling needs after an update, how the update went, and the CPU seconds since the last one."""
        return self._flat.parameters.detach().cpu().numpy().copy(), self._stats, self._cpu_s

    def set_weights(self, weights: Weights) -> None:
        """Go on from `weights`, in place."""
        if not self._bound():
            self._adopt()
        self._flat.set_weights(weights)
        self._updates = weights.updates

    def set_state(self, state: dict[str, Any]) -> None:
        """RLlib's restore; loading an optimiser's state replaces its tensors, so they are adopted again."""
        super().set_state(state)
        if hasattr(self, "_shape"):
            self._adopt()

    @property
    def _network(self) -> torch.nn.Module:
        module: torch.nn.Module = self.module[DEFAULT_MODULE_ID].unwrapped().network
        return module

    @property
    def _optimiser(self) -> torch.optim.Optimizer:
        optimiser: torch.optim.Optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        return optimiser

    def _bound(self) -> bool:
        parameter = next(iter(dict(self._network.named_parameters()).values()))
        moments = self._optimiser.state.get(parameter, {}).get("exp_avg")
        return (
            moments is not None
            and moments.untyped_storage().data_ptr() == self._flat.first.untyped_storage().data_ptr()
        )

    def _adopt(self) -> None:
        """Copy parameters and moments into flat tensors, and make RLlib's own tensors views of them."""
        named = dict(self._network.named_parameters())
        order = [named[name] for name, _ in network.parameters(self._shape)]
        old = [self._optimiser.state.get(parameter, {}) for parameter in order]
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in order])
        first, second = (
            torch.cat(
                [
                    s[key].reshape(-1) if key in s else torch.zeros(p.numel(), device=p.device)
                    for s, p in zip(old, order, strict=True)
                ]
            )
            for key in ("exp_avg", "exp_avg_sq")
        )
        steps = max((float(s["step"]) for s in old if "step" in s), default=0.0)
        device = flat.device
        self._flat = FlatState(
            parameters=flat,
            gradient=torch.zeros_like(flat),
            first=first.to(device),
            second=second.to(device),
            step=torch.tensor(steps, device=device),
        )
        autograd.bind(self._network, self._flat, shape=self._shape)
        offset = 0
        for parameter in order:
            size = parameter.numel()
            self._optimiser.state[parameter] = {
                "step": self._flat.step,
                "exp_avg": self._flat.first[offset : offset + size].view(parameter.shape),
                "exp_avg_sq": self._flat.second[offset : offset + size].view(parameter.shape),
            }
            offset += size
        make = analytic.Analytic if device.type == "cpu" else autograd.Autograd
        self._engine = make(self._flat, shape=self._shape, head=self._head, loss=self._loss)


_MASKS = "action_masks"


def to_batch(columns: Columns) -> MultiAgentBatch:
    """Columns as RLlib carries and shards them; the names are those its own learner reads."""
    named = {
        Names.OBS: columns.observations,
        Names.ACTIONS: columns.actions,
        Names.ACTION_LOGP: columns.log_probabilities,
        Postprocessing.ADVANTAGES: columns.advantages,
        Postprocessing.VALUE_TARGETS: columns.targets,
    }
    sample = SampleBatch(named if columns.masks is None else {**named, _MASKS: columns.masks})
    return MultiAgentBatch({DEFAULT_MODULE_ID: sample}, env_steps=len(columns))


def from_batch(batch: MultiAgentBatch) -> Columns:
    """The inverse of `to_batch`."""
    sample = batch.policy_batches[DEFAULT_MODULE_ID]
    return Columns(
        observations=np.asarray(sample[Names.OBS]),
        actions=np.asarray(sample[Names.ACTIONS]),
        log_probabilities=np.asarray(sample[Names.ACTION_LOGP]),
        advantages=np.asarray(sample[Postprocessing.ADVANTAGES]),
        targets=np.asarray(sample[Postprocessing.VALUE_TARGETS]),
        masks=np.asarray(sample[_MASKS]) if _MASKS in sample else None,
    )


def _average(gradient: torch.Tensor) -> None:
    """One message for the whole gradient, not one for each tensor."""
    torch.distributed.all_reduce(gradient)
    gradient.div_(torch.distributed.get_world_size())
