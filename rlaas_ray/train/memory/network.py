"""The network of a policy with a memory, as names and places in one flat float32 vector, and as the programs that engines run.

Policy and value have a tower each: hidden layers, a memory, one output layer. A memory of its own keeps the value's gradient,
whose size follows the returns, out of what the policy remembers. Used by sampler.py, torch_network.py and family.py. Never
computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.policies import memory as memories
from rlaas_ray.policies import network as programs
from rlaas_ray.policies import view as views_of_units
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import network
from rlaas_ray.train.network import Activation

TOWERS = ("actor", "critic")
_POSITION_SCALE = 1.0  # of attention's learned places, as large as a tanh layer's outputs: age shows from the start
_FORGET_BIAS = 1.0  # of the LSTM: it remembers before it learns to forget (Jozefowicz, Zaremba & Sutskever 2015)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What decides every parameter's place. `size`: of the memory's output; `steps`: attention's window."""

    inputs: int
    hidden: tuple[int, ...]
    activation: Activation
    kind: memories.Kind
    size: int
    steps: int
    outputs: int  # of the policy, without the free log std
    free: int  # log std entries

    @property
    def encoded(self) -> int:
        """Entries that the memory takes."""
        return self.hidden[-1] if self.hidden else self.inputs

    def state_size(self) -> int:
        """Entries of the state of one tower."""
        if self.kind == "attention":
            return (self.steps - 1) * (1 + self.inputs)
        return self.size * (2 if self.kind == "lstm" else 1)


def parameters(shape: Shape) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter, in the order of the flat vector."""
    found: list[tuple[str, tuple[int, ...]]] = []
    widths = [shape.inputs, *shape.hidden]
    inner = memories.shapes(shape.kind, inputs=shape.encoded, outputs=shape.size, steps=shape.steps)
    for tower, outputs in zip(TOWERS, (shape.outputs, 1), strict=True):
        for layer in range(len(shape.hidden)):
            found.append((f"{tower}.{layer}.weight", (widths[layer + 1], widths[layer])))
            found.append((f"{tower}.{layer}.bias", (widths[layer + 1],)))
        found += [(f"{tower}.memory.{name}", dimensions) for name, dimensions in inner.items()]
        found += [(f"{tower}.output.weight", (outputs, shape.size)), (f"{tower}.output.bias", (outputs,))]
    if shape.free:
        found.append(("log_std", (shape.free,)))
    return found


def views(flat: F32, shape: Shape) -> dict[str, F32]:
    """Name -> array that shares memory with `flat`."""
    return network.named(flat, parameters(shape))


def initial(shape: Shape, *, rng: np.random.Generator, policy_gain: float, log_std: float) -> F32:
    """Orthogonal weights: gain sqrt 2 in hidden layers, 1 in each gate, `policy_gain` and 1 at the ends; zero biases."""
    flat = np.zeros(sum(int(np.prod(dimensions)) for _, dimensions in parameters(shape)), dtype=np.float32)
    for name, array in views(flat, shape).items():
        _, _, last = name.partition(".")
        if name == "log_std":
            array[:] = log_std
        elif last == "memory.position":
            array[:] = _POSITION_SCALE * rng.standard_normal(array.shape)
        elif last in {"memory.weight_ih", "memory.weight_hh"}:
            for gate in np.split(array, memories.GATES[shape.kind]):
                gate[:] = network.orthogonal(gate.shape, rng=rng)
        elif last == "memory.bias_hh" and shape.kind == "lstm":
            array[shape.size : 2 * shape.size] = _FORGET_BIAS
        elif last.endswith("weight"):
            array[:] = _gain(name, policy_gain=policy_gain) * network.orthogonal(array.shape, rng=rng)
    return flat


def _gain(name: str, *, policy_gain: float) -> float:
    if name == "actor.output.weight":
        return policy_gain
    return 1.0 if ".memory." in name or name == "critic.output.weight" else float(np.sqrt(2))


def program(
    flat: F32,
    shape: Shape,
    *,
    tower: str,
    normaliser: programs.Normaliser | None,
    view: views_of_units.ViewProgram | None = None,
) -> programs.Network:
    """One tower as engines compute it, copied out of `flat`."""
    named = views(flat, shape)
    layers = [
        programs.Layer(
            weight=named[f"{tower}.{layer}.weight"].copy(),
            bias=named[f"{tower}.{layer}.bias"].copy(),
            activation=shape.activation,
        )
        for layer in range(len(shape.hidden))
    ]
    output = programs.Layer(
        weight=named[f"{tower}.output.weight"].copy(), bias=named[f"{tower}.output.bias"].copy(), activation="linear"
    )
    start = f"{tower}.memory."
    arrays = {name.removeprefix(start): array.copy() for name, array in named.items() if name.startswith(start)}
    free = shape.free and tower == "actor"
    return programs.Network(
        layers=(*layers, output),
        memory=memories.Memory(kind=shape.kind, after=len(layers), arrays=arrays),
        normaliser=normaliser,
        log_std=named["log_std"].copy() if free else None,
        view=view,
        parts=2 if free else 1,
    )
