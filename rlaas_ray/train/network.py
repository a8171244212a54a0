"""The network of policy and value, as views into one flat float32 vector: names, offsets, forward, backward.

Used by sampler.py (forward), analytic.py (forward and backward) and rllib/module.py, whose parameters have the same names.
Never owns memory: whoever holds the vector may be torch, a message or a checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlaas_ray.specs.arrays import F32

Activation = Literal["tanh", "relu", "silu", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides every parameter's place."""

    inputs: int
    hidden: tuple[int, ...]
    activation: Activation
    outputs: int  # of the policy network, without the free log std
    free: int  # log std entries

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(int(np.prod(shape)) for _, shape in parameters(self))


def parameters(shape: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter, in the order of the flat vector (torch's: weight (out, in), bias (out,))."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for tower, last in (("actor", shape.outputs), ("critic", 1)):
        widths = [shape.inputs, *shape.hidden, last]
        for layer in range(len(widths) - 1):
            found.append((f"{tower}.{layer}.weight", (widths[layer + 1], widths[layer])))
            found.append((f"{tower}.{layer}.bias", (widths[layer + 1],)))
    if shape.free:
        found.append(("log_std", (shape.free,)))
    return found


def views(flat: F32, shape: Shape) -> dict[str, F32]:
    """Name -> array that shares memory with `flat`."""
    return named(flat, parameters(shape))


def named(flat: F32, places: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, F32]:
    """The same for any names and shapes, in the order of the flat vector."""
    found, offset = {}, 0
    for name, dimensions in places:
        size = int(np.prod(dimensions))
        found[name] = flat[offset : offset + size].reshape(dimensions)
        offset += size
    if offset != flat.shape[0]:
        msg = f"flat vector of {flat.shape[0]} for a network of {offset}"
        raise ValueError(msg)
    return found


class Room:
    """Arrays that are used again and again: page faults and allocations cost as much as small matrix products."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, int], F32] = {}
        self._ones: F32 = np.ones(0, dtype=np.float32)

    def take(self, name: str, layer: int, *, rows: int, width: int) -> F32:
        """(rows, width), its content what the last user of that name left."""
        found = self._arrays.get((name, layer))
        if found is None or found.shape[0] < rows or found.shape[1] != width:
            found = self._arrays[name, layer] = np.empty((rows, width), dtype=np.float32)
        return found[:rows]

    def ones(self, rows: int) -> F32:
        """(rows,): a product with it sums columns faster than `np.add.reduce`."""
        if self._ones.shape[0] < rows:
            self._ones = np.ones(rows, dtype=np.float32)
        return self._ones[:rows]


class Tower:
    """One multilayer perceptron over views; `forward` keeps what `backward` needs only when told to.

    With `reuse`, what forward gave is valid until the next forward of the same tower.
    """

    def __init__(self, named: dict[str, F32], *, tower: str, activation: Activation, reuse: bool = False) -> None:
        count = sum(1 for name in named if name.startswith(f"{tower}.")) // 2
        self._weights = [named[f"{tower}.{layer}.weight"] for layer in range(count)]
        self._transposed = [weight.T for weight in self._weights]
        self._biases = [named[f"{tower}.{layer}.bias"] for layer in range(count)]
        self._activation = activation
        self._reuse = reuse
        self._room = Room()

    def forward(self, inputs: F32, *, kept: list[tuple[F32, F32]] | None = None) -> F32:
        """Outputs (n, k) of inputs (n, d). `kept` receives (layer input, activation derivative)."""
        last = len(self._weights) - 1
        for layer, (weight, bias) in enumerate(zip(self._transposed, self._biases, strict=True)):
            outputs = self._empty("outputs", layer, rows=len(inputs), width=weight.shape[1])
            np.matmul(inputs, weight, out=outputs)
            outputs += bias
            if layer == last:
                if kept is not None:
                    kept.append((inputs, outputs))
                return outputs
            if kept is None:
                inputs = _activate(outputs, self._activation)
            else:
                derivative = self._empty("derivative", layer, rows=len(outputs), width=outputs.shape[1])
                inputs_before, inputs = inputs, _differentiate(outputs, self._activation, into=derivative)
                kept.append((inputs_before, derivative))
        raise AssertionError

    def backward(self, gradient: F32, *, kept: list[tuple[F32, F32]], into: Tower) -> None:
        """Writes d loss / d parameters into the views of `into`; gradient is d loss / d outputs (n, k)."""
        ones = self._room.ones(len(gradient))
        for layer in range(len(self._weights) - 1, -1, -1):
            inputs, _ = kept[layer]
            np.matmul(gradient.T, inputs, out=into._weights[layer])
            np.matmul(ones, gradient, out=into._biases[layer])
            if layer:
                weight = self._weights[layer]
                below = self._room.take("gradient", layer, rows=len(gradient), width=weight.shape[1])
                # dot, not matmul: with one output matmul leaves BLAS and takes seven times as long
                gradient = np.dot(gradient, weight, out=below)
                gradient *= kept[layer - 1][1]

    def acting(self, rows: int) -> Acting:
        """The tower as it is now, for many batches of `rows` rows."""
        return Acting(self._transposed, self._biases, activation=self._activation, rows=rows)

    def _empty(self, name: str, layer: int, *, rows: int, width: int) -> F32:
        if self._reuse:
            return self._room.take(name, layer, rows=rows, width=width)
        return np.empty((rows, width), dtype=np.float32)


class Acting:
    """A tower's forward pass for many small batches of one size: weights the right way round, a bias for each row.

    A third less time for 32 rows than `Tower.forward`. What it gave is valid until the next call.
    """

    def __init__(self, weights: list[F32], biases: list[F32], *, activation: Activation, rows: int) -> None:
        self._layers = [
            (np.ascontiguousarray(weight), np.tile(bias, (rows, 1)), np.empty((rows, len(bias)), dtype=np.float32))
            for weight, bias in zip(weights, biases, strict=True)
        ]
        self._activation = activation

    def forward(self, inputs: F32) -> F32:
        """Outputs (rows, k) of inputs (rows, d)."""
        last = len(self._layers) - 1
        for layer, (weight, bias, outputs) in enumerate(self._layers):
            np.dot(inputs, weight, out=outputs)
            np.add(outputs, bias, out=outputs)
            inputs = outputs if layer == last else _activate(outputs, self._activation)
        return inputs


def _activate(values: F32, activation: Activation) -> F32:
    """In place."""
    match activation:
        case "tanh":
            np.tanh(values, out=values)
        case "relu":
            np.maximum(values, 0, out=values)
        case "silu":
            values *= _gate(values)
        case "linear":
            pass
    return values


def _differentiate(values: F32, activation: Activation, *, into: F32) -> F32:
    """In place; its derivative goes into `into`."""
    match activation:
        case "tanh":
            np.tanh(values, out=values)
            np.multiply(values, values, out=into)
            np.subtract(np.float32(1), into, out=into)
        case "relu":
            np.maximum(values, 0, out=values)
            np.greater(values, 0, out=into)
        case "silu":
            gate = _gate(values)
            values *= gate
            into[:] = gate + values * (np.float32(1) - gate)
        case "linear":
            into[:] = 1
    return values


def _gate(values: F32) -> F32:
    found: F32 = np.float32(1) / (np.float32(1) + np.exp(-values))
    return found


class Network:
    """Policy and value over one flat vector. With `reuse`, results are valid until the next call of the same method."""

    def __init__(self, flat: F32, shape: Shape, *, reuse: bool = False) -> None:
        named = views(flat, shape)
        self.flat = flat
        self.shape = shape
        self.actor = Tower(named, tower="actor", activation=shape.activation, reuse=reuse)
        self.critic = Tower(named, tower="critic", activation=shape.activation, reuse=reuse)
        self.log_std = named.get("log_std")

    def distribution(self, observations: F32, *, kept: list[tuple[F32, F32]] | None = None) -> F32:
        """(n, d) -> head parameters (n, k)."""
        outputs = self.actor.forward(observations, kept=kept)
        if self.log_std is None:
            return outputs
        return np.concatenate([outputs, np.broadcast_to(self.log_std, outputs.shape)], axis=1)

    def values(self, observations: F32, *, kept: list[tuple[F32, F32]] | None = None) -> F32:
        """(n, d) -> (n,)."""
        return self.critic.forward(observations, kept=kept)[:, 0]


def initial(shape: Shape, *, rng: np.random.Generator, policy_gain: float, log_std: float) -> F32:
    """Orthogonal weights (gain sqrt 2, `policy_gain` for the policy's last layer, 1 for the value's), zero biases."""
    flat = np.zeros(shape.size, dtype=np.float32)
    last = len(shape.hidden)
    for name, array in views(flat, shape).items():
        if name == "log_std":
            array[:] = log_std
        elif name.endswith("weight"):
            tower, layer, _ = name.split(".")
            final = policy_gain if tower == "actor" else 1.0
            array[:] = orthogonal(array.shape, rng=rng) * (final if int(layer) == last else np.sqrt(2))
    return flat


def orthogonal(shape: tuple[int, ...], *, rng: np.random.Generator) -> F32:
    """A matrix with orthonormal rows, or columns where there are fewer."""
    rows, columns = shape
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    return np.asarray(q if rows >= columns else q.T, dtype=np.float32)
