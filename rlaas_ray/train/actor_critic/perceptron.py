"""Multilayer perceptrons over one flat float32 vector, forward and backward without allocating; what actors and critics are.

Called by the engines beside it. Work arrays are in a Tape, reused from update to update. Never owns parameters. Products are
NumPy's, tanh too; ReLU and its derivative are torch's kernels on the same memory: NumPy's took two to six times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rlaas_ray.specs.arrays import F32, I64

Activation = Literal["tanh", "relu", "silu", "linear"]
_relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths from input to output, and what is between the layers; the output is linear."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: Activation

    @property
    def widths(self) -> tuple[int, ...]:
        """Of every layer's input, and of the output."""
        return (self.inputs, *self.hidden, self.outputs)

    @property
    def size(self) -> int:
        """Parameters: torch's layout, weight (out, in) then bias (out,), layer after layer."""
        return sum((before + 1) * after for before, after in zip(self.widths, self.widths[1:], strict=False))


class Tape:
    """Work arrays for up to `rows` rows of one shape. `inputs` is written by the caller; the rest belongs to Perceptron."""

    def __init__(self, shape: Shape, *, rows: int) -> None:
        self.rows = rows
        self.inputs: F32 = np.zeros((rows, shape.inputs), dtype=np.float32)
        self.hidden = [_Layer(width, rows=rows) for width in shape.hidden]
        self.outputs: F32 = np.zeros((rows, shape.outputs), dtype=np.float32)
        self.ones: F32 = np.ones((1, rows), dtype=np.float32)


class _Layer:
    """Activations of one hidden layer, gradients by them, and room for what is in between."""

    def __init__(self, width: int, *, rows: int) -> None:
        shape = (rows, width)
        self.values: F32 = np.zeros(shape, dtype=np.float32)
        self.gradient: F32 = np.zeros(shape, dtype=np.float32)
        self.scratch: F32 = np.zeros(shape, dtype=np.float32)  # chosen rows; silu's derivative
        self.values_torch = torch.from_numpy(self.values)
        self.gradient_torch = torch.from_numpy(self.gradient)
        self.scratch_torch = torch.from_numpy(self.scratch)


class Perceptron:
    """Views into a flat vector. The gradient's vector is a Perceptron too."""

    def __init__(self, flat: F32, shape: Shape) -> None:
        if flat.shape != (shape.size,):
            msg = f"flat vector of {flat.shape} for a perceptron of {shape.size}"
            raise ValueError(msg)
        self.flat = flat
        self.shape = shape
        self.weights: list[F32] = []
        self.biases: list[F32] = []
        offset = 0
        for before, after in zip(shape.widths, shape.widths[1:], strict=False):
            self.weights.append(flat[offset : offset + before * after].reshape(after, before))
            offset += before * after
            self.biases.append(flat[offset : offset + after])
            offset += after
        self._transposed = [weight.T for weight in self.weights]

    def forward(self, tape: Tape) -> F32:
        """Outputs (rows, k) of `tape.inputs`: a view into the tape, good until its next use."""
        values = tape.inputs
        for layer, weight, bias in zip(tape.hidden, self._transposed, self.biases, strict=False):
            np.matmul(values, weight, out=layer.values)
            layer.values += bias
            _activate(layer, activation=self.shape.activation)
            values = layer.values
        np.matmul(values, self._transposed[-1], out=tape.outputs)
        tape.outputs += self.biases[-1]
        return tape.outputs

    def backward(self, gradient: F32, *, tape: Tape, into: Perceptron) -> None:
        """Writes d loss / d parameters into `into`; `gradient` (m, k) is by the tape's first m outputs, 0 for all others."""
        count = gradient.shape[0]
        ones = tape.ones[:, :count]
        for index in range(len(self.weights) - 1, -1, -1):
            inputs = tape.hidden[index - 1].values[:count] if index else tape.inputs[:count]
            np.matmul(gradient.T, inputs, out=into.weights[index])
            np.matmul(ones, gradient, out=into.biases[index][None])
            if index:
                layer = tape.hidden[index - 1]
                _product(gradient, self.weights[index], out=layer.gradient[:count])
                _derive(layer, rows=slice(count), activation=self.shape.activation)
                gradient = layer.gradient[:count]

    def by_inputs(self, gradient: F32, *, tape: Tape, rows: slice | I64, first: int) -> F32:
        """D loss / d inputs[:, first:] (m, inputs - first), where `gradient` (m, k) is by the outputs of the `rows` (m,) named.

        Parameters get nothing. Overwrites the tape's gradients.
        """
        count = gradient.shape[0]
        for index in range(len(self.weights) - 1, 0, -1):
            layer = tape.hidden[index - 1]
            _product(gradient, self.weights[index], out=layer.gradient[:count])
            _derive(layer, rows=rows, activation=self.shape.activation)
            gradient = layer.gradient[:count]
        found: F32 = gradient @ self.weights[0][:, first:]
        return found


def _product(left: F32, right: F32, *, out: F32) -> None:
    """Left @ right; where that is an outer product (a critic's one output), without the library, which takes thrice as long."""
    if left.shape[1] == 1:
        np.multiply(left, right, out=out)
    else:
        np.matmul(left, right, out=out)


def _activate(layer: _Layer, *, activation: Activation) -> None:
    match activation:
        case "relu":
            torch.relu_(layer.values_torch)
        case "tanh":
            np.tanh(layer.values, out=layer.values)
        case "silu":
            gate = np.float32(1) / (np.float32(1) + np.exp(-layer.values))
            layer.values *= gate
            np.add(gate, layer.values * (np.float32(1) - gate), out=layer.scratch)
        case "linear":
            pass


def _derive(layer: _Layer, *, rows: slice | I64, activation: Activation) -> None:
    """Multiplies the gradient of the named rows, which is at its beginning, by the activation's derivative."""
    if activation == "linear":
        return
    if isinstance(rows, slice):
        start, stop, _ = rows.indices(layer.values.shape[0])
        count = stop - start
    else:
        count = rows.shape[0]
    gradient = layer.gradient[:count]
    if activation == "silu":
        gradient *= layer.scratch[rows]
        return
    if isinstance(rows, slice):
        values, values_torch = layer.values[rows], layer.values_torch[rows]
    else:
        values, values_torch = layer.scratch[:count], layer.scratch_torch[:count]
        np.take(layer.values, rows, axis=0, out=values, mode="clip")
    if activation == "relu":
        by = layer.gradient_torch[:count]
        _relu_backward(by, values_torch, 0, grad_input=by)
    else:  # tanh: 1 - y^2
        square = values * values
        square *= gradient
        gradient -= square


def initial(shape: Shape, *, rng: np.random.Generator, final_gain: float = 1.0) -> F32:
    """Uniform in +-1/sqrt(inputs of the layer) for weights and biases, as torch and the papers of DDPG and SAC start.

    `final_gain` scales the last layer: small, so that an actor starts near the middle of its range.
    """
    parts = []
    last = len(shape.hidden)
    for index, (before, after) in enumerate(zip(shape.widths, shape.widths[1:], strict=False)):
        bound = (final_gain if index == last else 1.0) / np.sqrt(before)
        parts.append(rng.uniform(-bound, bound, (before + 1) * after))
    return np.concatenate(parts).astype(np.float32)
