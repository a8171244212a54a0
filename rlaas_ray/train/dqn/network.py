"""The Q network over one flat float32 vector: values or C51's logits, plain or dueling; forward, backward, and as plain layers.

Used by bellman.py, by the explorer and by export. A dueling network (Wang et al. 2016: V + A - mean A, a hidden layer for each
stream) is computed as a plain one: its last layer is a linear image of the streams' weights, made anew after each step.

n rows, d inputs, A actions, K atoms (1: values), h units of the last hidden layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies import network as programs
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train.network import Activation, Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides every parameter's place."""

    inputs: int
    hidden: tuple[int, ...]  # with `dueling` one at least
    activation: Activation
    actions: int
    atoms: int
    dueling: bool

    @property
    def outputs(self) -> int:
        """A * K, an action's atoms side by side."""
        return self.actions * self.atoms

    @property
    def widths(self) -> list[int]:
        """Inputs and hidden layers as computed: with `dueling` the last holds both streams, the value's first."""
        widths = [self.inputs, *self.hidden]
        if self.dueling:
            widths[-1] *= 2
        return widths

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(int(np.prod(shape)) for _, shape in parameters(self))


def parameters(shape: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter, in the order of the flat vector (torch's: weight (out, in), bias (out,))."""
    widths, found = shape.widths, list[tuple[str, tuple[int, ...]]]()
    for layer in range(len(widths) - 1):
        found += _layer(f"q.{layer}", outputs=widths[layer + 1], inputs=widths[layer])
    if not shape.dueling:
        return found + _layer(f"q.{len(shape.hidden)}", outputs=shape.outputs, inputs=widths[-1])
    h = shape.hidden[-1]
    return found + _layer("value", outputs=shape.atoms, inputs=h) + _layer("advantage", outputs=shape.outputs, inputs=h)


def _layer(name: str, *, outputs: int, inputs: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))]


def views(flat: F32, shape: Shape) -> dict[str, F32]:
    """Name -> array that shares memory with `flat`."""
    found, offset = {}, 0
    for name, dimensions in parameters(shape):
        size = int(np.prod(dimensions))
        found[name] = flat[offset : offset + size].reshape(dimensions)
        offset += size
    if offset != flat.shape[0]:
        msg = f"flat vector of {flat.shape[0]} for a network of {offset}"
        raise ValueError(msg)
    return found


class QNetwork:
    """Forward and backward over `flat`; `refresh` after whoever holds `flat` has changed it."""

    def __init__(self, flat: F32, shape: Shape) -> None:
        self.shape = shape
        self.flat = flat
        self._named = views(flat, shape)
        plain = {name: array for name, array in self._named.items() if name.startswith("q.")}
        if shape.dueling:
            last = len(shape.hidden)
            plain[f"q.{last}.weight"] = np.zeros((shape.outputs, shape.widths[-1]), dtype=np.float32)
            plain[f"q.{last}.bias"] = np.zeros(shape.outputs, dtype=np.float32)
        self._plain = plain
        self.tower = Tower(plain, tower="q", activation=shape.activation)
        self.refresh()

    def refresh(self) -> None:
        """Make a dueling network's last layer of its streams: V_k + A_ak - mean over a of A_ak."""
        if not self.shape.dueling:
            return
        weight, bias, h = self._last()
        advantage = self._named["advantage.weight"].reshape(*weight.shape[:2], h)
        free = self._named["advantage.bias"].reshape(bias.shape)
        weight[:, :, :h] = self._named["value.weight"]
        weight[:, :, h:] = advantage - advantage.mean(axis=0)
        bias[:] = self._named["value.bias"] + free - free.mean(axis=0)

    def pull_back(self) -> None:
        """The inverse for gradients: what `tower.backward` wrote for the last layer goes into both streams."""
        if not self.shape.dueling:
            return
        weight, bias, h = self._last()
        flowing = weight[:, :, h:]
        self._named["value.weight"][:] = weight[:, :, :h].sum(axis=0)
        self._named["value.bias"][:] = bias.sum(axis=0)
        self._named["advantage.weight"].reshape(flowing.shape)[:] = flowing - flowing.mean(axis=0)
        self._named["advantage.bias"].reshape(bias.shape)[:] = bias - bias.mean(axis=0)

    def outputs(self, observations: F32, *, kept: list[tuple[F32, F32]] | None = None) -> F32:
        """(n, d) -> (n, A * K)."""
        return self.tower.forward(observations, kept=kept)

    def layers(self) -> tuple[programs.Layer, ...]:
        """Copies as plain layers, streams folded in: what a bundle holds."""
        last = len(self.shape.hidden)
        return tuple(
            programs.Layer(
                weight=self._plain[f"q.{layer}.weight"].copy(),
                bias=self._plain[f"q.{layer}.bias"].copy(),
                activation=self.shape.activation if layer < last else "linear",
            )
            for layer in range(last + 1)
        )

    def _last(self) -> tuple[F32, F32, int]:
        """The plain last layer by action and atom: weight (A, K, 2h), bias (A, K), and h."""
        shape, last = self.shape, len(self.shape.hidden)
        weight = self._plain[f"q.{last}.weight"].reshape(shape.actions, shape.atoms, shape.widths[-1])
        return weight, self._plain[f"q.{last}.bias"].reshape(shape.actions, shape.atoms), shape.hidden[-1]


def initial(shape: Shape, *, rng: np.random.Generator) -> F32:
    """Uniform in +- 1 / sqrt(inputs of the layer), torch's default for linear layers, weights and biases."""
    flat = np.zeros(shape.size, dtype=np.float32)
    named = views(flat, shape)
    for name, array in named.items():
        inputs = named[f"{name.rpartition('.')[0]}.weight"].shape[1]
        array[:] = rng.uniform(-1.0, 1.0, array.shape) / np.sqrt(inputs)
    return flat


def support(shape: Shape, *, v_min: float, v_max: float) -> F32:
    """C51's atoms (K,)."""
    return np.linspace(v_min, v_max, shape.atoms, dtype=np.float32)
