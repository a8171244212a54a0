"""The NumPy engine: a few matrix products, quickest at batch 1, and the only one an edge server needs.

Made by `choice.py` from a Network. Never checks its input: loaded.py does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlaas_ray.policies.engines import numpy_memory
from rlaas_ray.policies.network import Network
from rlaas_ray.specs.arrays import F32

_Apply = Callable[[F32], F32]
_Layer = tuple[F32, F32, _Apply | None]


class NumpyEngine:
    """Head parameters (n, k) of encoded observations (n, d); with a memory also the state (n, s) after them."""

    def __init__(self, network: Network) -> None:
        # Transposed copies: x @ w with w (in, out) contiguous is the quickest order for few rows.
        self._layers: list[_Layer] = [
            (np.ascontiguousarray(layer.weight.T), layer.bias, _ACTIVATIONS[layer.activation])
            for layer in network.layers
        ]
        self._view = network.view
        self._normaliser = network.normaliser
        self._log_std = None if network.log_std is None else np.tile(network.log_std, network.units)
        self._parts = network.parts
        self._atoms = network.atoms
        self._lookup = network.lookup
        self._state_size = network.state_size
        self._after = 0 if network.memory is None else network.memory.after
        self._cell: numpy_memory.Cell | None = None
        self._attention: numpy_memory.Attention | None = None
        if network.memory is not None and network.memory.kind == "attention":
            self._attention = numpy_memory.Attention(network.memory)
        elif network.memory is not None:
            self._cell = numpy_memory.cell(network.memory)

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32; with a memory, at the start of an episode."""
        if self._state_size:
            return self.step(observations, np.zeros((len(observations), self._state_size), dtype=np.float32))[0]
        x = self._normalised(self._seen(observations))
        if self._lookup is not None:
            x = self._lookup.apply(x)
        return self._assembled(self._through(x, self._layers), observations)

    def step(self, observations: F32, states: F32) -> tuple[F32, F32]:
        """(n, d) and (n, s) -> (n, k) and (n, s), float32."""
        seen = self._seen(observations)
        before, after = self._layers[: self._after], self._layers[self._after :]
        held = states.reshape(len(seen), -1)
        if self._attention is not None:
            window = np.empty(
                (len(seen), held.shape[1] // (1 + seen.shape[1]) + 1, 1 + seen.shape[1]), dtype=np.float32
            )
            window[:, :-1] = held.reshape(len(seen), -1, window.shape[2])
            window[:, -1, 0] = 1
            window[:, -1, 1:] = seen
            x = self._through(self._normalised(window[:, :, 1:].reshape(-1, seen.shape[1])), before)
            x, held = self._attention(x.reshape(*window.shape[:2], -1), taken=window[:, :, 0]), window[:, 1:]
        else:
            assert self._cell is not None
            x, held = self._cell(self._through(self._normalised(seen), before), held)
        return self._assembled(self._through(x, after), observations), held.reshape(states.shape)

    def _seen(self, observations: F32) -> F32:
        """Rows of observations -> rows of units."""
        return observations if self._view is None else self._view.apply(observations).reshape(-1, self._view.size)

    def _normalised(self, x: F32) -> F32:
        if self._normaliser is None:
            return x
        clip = np.float32(self._normaliser.clip)
        x = (x - self._normaliser.mean) / self._normaliser.std
        np.maximum(x, -clip, out=x)
        return np.minimum(x, clip, out=x)

    def _through(self, x: F32, layers: list[_Layer]) -> F32:
        for weight, bias, activation in layers:
            x = x @ weight
            x += bias
            if activation is not None:
                x = activation(x)
        return x

    def _assembled(self, x: F32, observations: F32) -> F32:
        """Rows of units -> rows of observations, block by block."""
        if self._atoms is not None:
            x = _mean(x.reshape(len(x), -1, len(self._atoms)), atoms=self._atoms)
        if self._parts == 1 and self._view is None:
            return x
        n = len(observations)
        if self._log_std is not None:
            out = np.empty((n, 2 * len(self._log_std)), dtype=np.float32)
            out[:, : len(self._log_std)] = x.reshape(n, -1)
            out[:, len(self._log_std) :] = self._log_std
            return out
        blocks = np.split(x, self._parts, axis=1)
        return np.concatenate([block.reshape(n, -1) for block in blocks], axis=1)


def _mean(logits: F32, *, atoms: F32) -> F32:
    """Of the distributions over atoms: (rows, A, K) -> (rows, A)."""
    p = np.exp(logits - logits.max(axis=2, keepdims=True))
    out: F32 = (p @ atoms) / p.sum(axis=2)
    return out


def _tanh(x: F32) -> F32:
    return np.tanh(x, out=x)


def _relu(x: F32) -> F32:
    return np.maximum(x, np.float32(0), out=x)


def _silu(x: F32) -> F32:
    # Through tanh: exp(-x) overflows float32 below -88.
    half = np.float32(0.5)
    out: F32 = x * (half * (np.float32(1) + np.tanh(half * x)))
    return out


def _elu(x: F32) -> F32:
    return np.where(x > 0, x, np.expm1(np.minimum(x, np.float32(0))))


_ACTIVATIONS: dict[str, _Apply | None] = {"tanh": _tanh, "relu": _relu, "silu": _silu, "elu": _elu, "linear": None}
