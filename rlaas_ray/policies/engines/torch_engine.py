"""The torch engine: the independent witness of the parity certificate; serves only when asked for by name.

Made by `choice.py`, which loads this module only then, so that serving never imports torch unasked.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from rlaas_ray.policies.memory import HIDDEN, Memory
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
    """Head parameters (n, k) of encoded observations (n, d), on one thread; with a memory also the state (n, s) after them."""

    def __init__(self, network: Network) -> None:
        self._layers = [
            (torch.tensor(layer.weight), torch.tensor(layer.bias), _ACTIVATIONS[layer.activation])
            for layer in network.layers
        ]
        self._network = network
        self._log_std = None if network.log_std is None else torch.tensor(network.log_std).repeat(network.units)
        self._atoms = None if network.atoms is None else torch.tensor(network.atoms)
        view, normaliser = network.view, network.normaliser
        self._view = None if view is None else [torch.tensor(x) for x in (view.index, view.matrix, view.offset)]
        self._normaliser = None if normaliser is None else (torch.tensor(normaliser.mean), torch.tensor(normaliser.std))

        memory, lookup = network.memory, network.lookup
        self._lookup = None if lookup is None else [torch.tensor(a) for a in lookup.tensors().values()]
        self._memory = None if memory is None else {name: torch.tensor(a) for name, a in memory.arrays.items()}

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32; with a memory, at the start of an episode."""
        return self.step(observations, np.zeros((len(observations), self._network.state_size), dtype=np.float32))[0]

    def step(self, observations: F32, states: F32) -> tuple[F32, F32]:
        """(n, d) and (n, s) -> (n, k) and (n, s), float32."""
        threads = torch.get_num_threads()
        if threads != 1:  # process-wide in torch: put back, a training may share this process
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                given = (torch.from_numpy(np.ascontiguousarray(array)) for array in (observations, states))
                out, held = self._forward(*given)
                return out.numpy(), held.reshape(states.shape).numpy()
        finally:
            if threads != 1:
                torch.set_num_threads(threads)

    def _forward(self, observations: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, x, held = len(observations), observations, states
        if self._view is not None:
            index, matrix, offset = self._view
            x = torch.cat([x, x @ matrix + offset], dim=1)[:, index].flatten(0, 1)
        memory = self._network.memory
        if memory is None:
            x = self._through(self._found(self._normalised(x)))
        else:
            x, held = self._remembering(x, held.reshape(len(x), -1), memory=memory)
            x = self._through(x, start=memory.after)
        if self._atoms is not None:
            x = torch.softmax(x.reshape(len(x), -1, len(self._atoms)), dim=2) @ self._atoms
        if self._log_std is not None:
            return torch.cat([x.reshape(n, -1), self._log_std.expand(n, -1)], dim=1), held
        return torch.cat([block.reshape(n, -1) for block in x.chunk(self._network.parts, dim=1)], dim=1), held

    def _remembering(
        self, seen: torch.Tensor, held: torch.Tensor, *, memory: Memory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the memory gives for rows of units, and their states after it."""
        assert self._memory is not None
        if memory.kind == "attention":
            newest = torch.cat([torch.ones(len(seen), 1), seen], dim=1)[:, None]
            window = torch.cat([held.reshape(len(seen), memory.steps - 1, -1), newest], dim=1)
            x = self._through(self._normalised(window[:, :, 1:].flatten(0, 1)), stop=memory.after)
            x = x.reshape(*window.shape[:2], -1)
            return _attend(x, taken=window[:, :, 0], weights=self._memory), window[:, 1:]
        x = self._through(self._normalised(seen), stop=memory.after)
        weights = [self._memory[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        if memory.kind == "gru":
            h = torch.gru_cell(x, held, *weights)
            return h, h
        h, c = held.chunk(2, dim=1)
        h, c = torch.lstm_cell(x, (h, c), *weights)
        return h, torch.cat([h, c], dim=1)

    def _found(self, x: torch.Tensor) -> torch.Tensor:
        if self._lookup is None:
            return x
        source, edge, stride, table = self._lookup
        return table[(x[:, source] >= edge).float().matmul(stride).long().clamp(max=len(table) - 1)]

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        if self._normaliser is None or self._network.normaliser is None:
            return x
        mean, std = self._normaliser
        clip = self._network.normaliser.clip
        return ((x - mean) / std).clamp(-clip, clip)

    def _through(self, x: torch.Tensor, *, start: int = 0, stop: int | None = None) -> torch.Tensor:
        for weight, bias, activation in self._layers[start:stop]:
            x = torch.nn.functional.linear(x, weight, bias)
            x = x if activation is None else activation(x)
        return x


def _attend(x: torch.Tensor, *, taken: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """(n, w, i) with places taken (n, w) -> (n, h); keys and values in full, unlike the other engines."""
    linear: Callable[..., torch.Tensor] = torch.nn.functional.linear
    placed = x + weights["position"].flip(0)
    query = linear(placed[:, -1:], weights["query.weight"], weights["query.bias"])
    keys, values = linear(placed, weights["key.weight"]), linear(placed, weights["value.weight"])
    mask = ((1 - taken) * HIDDEN)[:, None]
    context = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    both = torch.cat([x[:, -1], context[:, 0]], dim=1)
    return torch.tanh(linear(both, weights["output.weight"], weights["output.bias"]))
