"""The RLModule: TorchNetwork under RLlib's names, so that its losses, checkpoints and weight syncs apply to it.

Built by RLlib on learners. Keeps its critic in every sync: it is no InferenceOnlyAPI, so trap T1 cannot spring.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns  # noqa: TID251
from ray.rllib.core.distribution.torch import torch_distribution  # noqa: TID251
from ray.rllib.core.rl_module.apis import ValueFunctionAPI  # noqa: TID251
from ray.rllib.core.rl_module.torch import TorchRLModule  # noqa: TID251

from rlaas_ray.train import autograd, heads, network


class PolicyModule(TorchRLModule, ValueFunctionAPI):
    """model_config: `shape` (network.Shape), `seed`, `policy_gain`, `log_std_initial`."""

    def setup(self) -> None:
        config = self.model_config
        shape: network.Shape = config["shape"]
        self.network = autograd.TorchNetwork(shape)
        flat = network.initial(
            shape,
            rng=np.random.default_rng(config["seed"]),
            policy_gain=config["policy_gain"],
            log_std=config["log_std_initial"],
        )
        with torch.no_grad():
            named = dict(self.network.named_parameters())
            for name, values in network.views(flat, shape).items():
                named[name].copy_(torch.from_numpy(values))
        head = heads.head_of(self.action_space)
        if not head.gaussian and head.width > 1:
            self.action_dist_cls = torch_distribution.TorchMultiCategorical.get_partial_dist_cls(
                space=self.action_space, input_lens=head.choices
            )

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.network.distribution(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """(n,) from batch[obs] (n, d)."""
        return self.network.values(batch[Columns.OBS])
