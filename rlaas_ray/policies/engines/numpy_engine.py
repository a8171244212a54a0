"""The NumPy engine: a few matrix products, quickest at batch 1, and the only one an edge server needs.

Made by `choice.py` from a Network. Never checks its input: loaded.py does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rlaas_ray.policies.network import Network
from rlaas_ray.specs.arrays import F32

_Apply = Callable[[F32], F32]


class NumpyEngine:
    """Head parameters (n, k) of encoded observations (n, d)."""

    def __init__(self, network: Network) -> None:
        # Transposed copies: x @ w with w (in, out) contiguous is the quickest order for few rows.
        self._layers: list[tuple[F32, F32, _Apply | None]] = [
            (np.ascontiguousarray(layer.weight.T), layer.bias, _ACTIVATIONS[layer.activation])
            for layer in network.layers
        ]
        self._view = network.view
        self._normaliser = network.normaliser
        self._log_std = None if network.log_std is None else np.tile(network.log_std, network.units)
        self._parts = network.parts

    def distribution(self, observations: F32) -> F32:
        """(n, d) -> (n, k), float32."""
        x = observations
        if self._view is not None:
            x = self._view.apply(observations).reshape(-1, self._view.size)
        if self._normaliser is not None:
            clip = np.float32(self._normaliser.clip)
            x = (x - self._normaliser.mean) / self._normaliser.std
            np.maximum(x, -clip, out=x)
            np.minimum(x, clip, out=x)
        for weight, bias, activation in self._layers:
            x = x @ weight
            x += bias
            if activation is not None:
                x = activation(x)
        return x if self._parts == 1 and self._view is None else self._assembled(x, n=len(observations))

    def _assembled(self, x: F32, *, n: int) -> F32:
        """Rows of units -> rows of observations, block by block."""
        if self._log_std is not None:
            out = np.empty((n, 2 * len(self._log_std)), dtype=np.float32)
            out[:, : len(self._log_std)] = x.reshape(n, -1)
            out[:, len(self._log_std) :] = self._log_std
            return out
        blocks = np.split(x, self._parts, axis=1)
        return np.concatenate([block.reshape(n, -1) for block in blocks], axis=1)


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
