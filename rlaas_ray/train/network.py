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


class Tower:
    """One multilayer perceptron over views; `forward` keeps what `backward` needs only when told to."""

    def __init__(self, named: dict[str, F32], *, tower: str, activation: Activation) -> None:
        count = sum(1 for name in named if name.startswith(f"{tower}.")) // 2
        self._weights = [named[f"{tower}.{layer}.weight"] for layer in range(count)]
        self._transposed = [weight.T for weight in self._weights]
        self._biases = [named[f"{tower}.{layer}.bias"] for layer in range(count)]
        self._activation = activation

    def forward(self, inputs: F32, *, kept: list[tuple[F32, F32]] | None = None) -> F32:
        """Outputs (n, k) of inputs (n, d). `kept` receives (layer input, activation derivative)."""
        last = len(self._weights) - 1
        for layer, (weight, bias) in enumerate(zip(self._transposed, self._biases, strict=True)):
            outputs = inputs @ weight
            outputs += bias
            if layer == last:
                if kept is not None:
                    kept.append((inputs, outputs))
                return outputs
            inputs_before = inputs
            inputs, derivative = _activate(outputs, self._activation, derive=kept is not None)
            if kept is not None:
                kept.append((inputs_before, derivative))
        raise AssertionError

    def backward(self, gradient: F32, *, kept: list[tuple[F32, F32]], into: Tower) -> None:
        """Writes d loss / d parameters into the views of `into`; gradient is d loss / d outputs (n, k)."""
        for layer in range(len(self._weights) - 1, -1, -1):
            inputs, _ = kept[layer]
            np.matmul(gradient.T, inputs, out=into._weights[layer])
            np.add.reduce(gradient, axis=0, out=into._biases[layer])
            if layer:
                gradient = gradient @ self._weights[layer]
                gradient *= kept[layer - 1][1]


def _activate(values: F32, activation: Activation, *, derive: bool) -> tuple[F32, F32]:
    """(activation, its derivative), the derivative only if asked for; `values` is overwritten where that is cheap."""
    none = values
    match activation:
        case "tanh":
            np.tanh(values, out=values)
            return values, np.float32(1) - values * values if derive else none
        case "relu":
            np.maximum(values, 0, out=values)
            return values, (values > 0).astype(np.float32) if derive else none
        case "silu":
            gate: F32 = np.float32(1) / (np.float32(1) + np.exp(-values))
            out: F32 = values * gate
            return out, gate + out * (np.float32(1) - gate) if derive else none
        case "linear":
            return values, np.ones_like(values) if derive else none


class Network:
    """Policy and value over one flat vector."""

    def __init__(self, flat: F32, shape: Shape) -> None:
        named = views(flat, shape)
        self.flat = flat
        self.shape = shape
        self.actor = Tower(named, tower="actor", activation=shape.activation)
        self.critic = Tower(named, tower="critic", activation=shape.activation)
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
