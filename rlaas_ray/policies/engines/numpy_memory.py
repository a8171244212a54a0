"""The memories of the NumPy engine: one step of an LSTM, a GRU or a window of attention, for many rows at once.

Held by numpy_engine.py, which does the layers before and after. The equations are torch's; torch is the witness.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rlaas_ray.policies.memory import HIDDEN, Memory
from rlaas_ray.specs.arrays import F32

_HALF = np.float32(0.5)


class Cell(Protocol):
    """One step: inputs (n, i) and states (n, s) -> outputs (n, h) and new states (n, s)."""

    def __call__(self, inputs: F32, states: F32) -> tuple[F32, F32]:
        """The step."""
        ...


def cell(memory: Memory) -> Cell:
    """The step of an LSTM or a GRU."""
    return _Lstm(memory) if memory.kind == "lstm" else _Gru(memory)


class _Lstm:
    def __init__(self, memory: Memory) -> None:
        arrays = memory.arrays
        self._size = memory.outputs
        self._weight = np.ascontiguousarray(np.concatenate([arrays["weight_ih"], arrays["weight_hh"]], axis=1).T)
        self._bias = arrays["bias_ih"] + arrays["bias_hh"]

    def __call__(self, inputs: F32, states: F32) -> tuple[F32, F32]:
        h = self._size
        gates = np.concatenate([inputs, states[:, :h]], axis=1) @ self._weight
        gates += self._bias
        keep = _sigmoid(gates[:, : 2 * h])
        out = np.empty((len(inputs), 2 * h), dtype=np.float32)
        inner = out[:, h:]
        np.multiply(keep[:, h:], states[:, h:], out=inner)
        inner += keep[:, :h] * np.tanh(gates[:, 2 * h : 3 * h])
        np.multiply(_sigmoid(gates[:, 3 * h :]), np.tanh(inner), out=out[:, :h])
        return out[:, :h], out


class _Gru:
    def __init__(self, memory: Memory) -> None:
        arrays = memory.arrays
        self._size = memory.outputs
        self._input = np.ascontiguousarray(arrays["weight_ih"].T), arrays["bias_ih"]
        self._hidden = np.ascontiguousarray(arrays["weight_hh"].T), arrays["bias_hh"]

    def __call__(self, inputs: F32, states: F32) -> tuple[F32, F32]:
        h = self._size
        given = inputs @ self._input[0]
        given += self._input[1]
        held = states @ self._hidden[0]
        held += self._hidden[1]
        gates = _sigmoid(given[:, : 2 * h] + held[:, : 2 * h])
        new = np.tanh(given[:, 2 * h :] + gates[:, :h] * held[:, 2 * h :])
        out: F32 = new + gates[:, h:] * (states - new)
        return out, out


class Attention:
    """One head from the newest entry of a window to all of them."""

    def __init__(self, memory: Memory) -> None:
        arrays = memory.arrays
        self._query = np.ascontiguousarray(arrays["query.weight"].T), arrays["query.bias"]
        self._key = np.ascontiguousarray(arrays["key.weight"].T)
        self._value = np.ascontiguousarray(arrays["value.weight"].T)
        self._output = np.ascontiguousarray(arrays["output.weight"].T), arrays["output.bias"]
        self._places = arrays["position"][::-1].copy()  # the window has the oldest first
        self._scale = np.float32(memory.outputs**-0.5)

    def __call__(self, window: F32, *, taken: F32) -> F32:
        """Outputs (n, h) of windows (n, w, i) whose places are taken (n, w), 1 or 0."""
        placed = window + self._places
        newest = window[:, -1]
        query = (newest + self._places[-1]) @ self._query[0]
        query += self._query[1]
        # q . (K x) = (K' q) . x: two small products instead of keys for the whole window.
        scores = np.einsum("nwi,ni->nw", placed, query @ self._key.T) * self._scale
        scores += (np.float32(1) - taken) * np.float32(HIDDEN)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        context = np.einsum("nw,nwi->ni", scores, placed) @ self._value
        out = np.concatenate([newest, context], axis=1) @ self._output[0]
        out += self._output[1]
        return np.tanh(out, out=out)


def _sigmoid(x: F32) -> F32:
    # Through tanh: exp(-x) overflows float32 below -88.
    out: F32 = _HALF * np.tanh(_HALF * x)
    out += _HALF
    return out
