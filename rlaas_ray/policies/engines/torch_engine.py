"""The torch engine: the independent witness of the parity certificate; serves only when asked for by name.

Made by `choice.py`, which loads this module only then, so that serving never imports torch unasked.
"""

from __future__ import annotations

import numpy as np
import torch

from rlaas_ray.policies.network import Network
from rlaas_ray.specs.arrays import F32

_ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "elu": torch.nn.functional.elu,
    "linear": None,
}


class TorchEngine:
    """Head parameters (n, k) of encoded observations (n, d), on one thread."""

    def __init__(self, network: Network) -> None:
        self._layers = [
            (torch.tensor(layer.weight), torch.tensor(layer.bias), _ACTIVATIONS[layer.activation])
            for layer in network.layers
        ]
        self._network = network
        self._log_std = None if network.log_std is None else torch.tensor(network.log_std).repeat(network.units)
        view, normaliser = network.view, network.normaliser
        self._view = None if view is None else [torch.tensor(x) for x in (view.index, view.matrix, view.offset)]
        self._normaliser = None if normaliser is None else (torch.tensor(normaliser.mean), torch.tensor(normaliser.std))

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32."""
        threads = torch.get_num_threads()
        if threads != 1:  # process-wide in torch: put back, a training may share this process
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                out: F32 = self._forward(torch.from_numpy(np.ascontiguousarray(observations))).numpy()
                return out
        finally:
            if threads != 1:
                torch.set_num_threads(threads)

    def _forward(self, observations: torch.Tensor) -> torch.Tensor:
        n, x = len(observations), observations
        if self._view is not None:
            index, matrix, offset = self._view
            x = torch.cat([x, x @ matrix + offset], dim=1)[:, index].flatten(0, 1)
        if self._normaliser is not None and self._network.normaliser is not None:
            mean, std = self._normaliser
            clip = self._network.normaliser.clip
            x = ((x - mean) / std).clamp(-clip, clip)
        for weight, bias, activation in self._layers:
            x = torch.nn.functional.linear(x, weight, bias)
            x = x if activation is None else activation(x)
        if self._log_std is not None:
            return torch.cat([x.reshape(n, -1), self._log_std.expand(n, -1)], dim=1)
        return torch.cat([block.reshape(n, -1) for block in x.chunk(self._network.parts, dim=1)], dim=1)
