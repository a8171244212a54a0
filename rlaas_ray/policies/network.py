"""Network: all that lies between an encoded observation and the head's parameters, as arrays and a short program.

view -> frozen normalisation -> a table's row, or what is observed -> affine layers with activations, perhaps a memory among
them -> head parameters. Written by `train/export.py`, computed by the three engines, stored by bundle.py. Never computes.

`d` entries of one (unit's) observation, `k` head parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import lookup as lookups
from rlaas_ray.policies import memory as memories
from rlaas_ray.policies import view as views
from rlaas_ray.specs.arrays import F32, Array

Activation = Literal["tanh", "relu", "silu", "elu", "linear"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """y = activation(weight @ x + bias), torch's layout."""

    weight: F32  # (out, in)
    bias: F32  # (out,)
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Normaliser:
    """x -> clip((x - mean) / std, -clip, clip), frozen. Any epsilon is already in `std`."""

    mean: F32  # (d,)
    std: F32  # (d,), > 0
    clip: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """`log_std`: appended to the last layer's output (a mean) where it does not depend on the state; (a,) of one unit.

    `parts`: how many equal blocks the head's parameters have: 2 for mean | log_std, 1 for logits. With a view, each unit's
    blocks are put together block by block: (n, units * a means | units * a log_stds). With a `memory` each row has a state.
    A `lookup` comes before the layers, and may do without any.
    """

    layers: tuple[Layer, ...]
    normaliser: Normaliser | None = None
    log_std: F32 | None = None
    view: views.ViewProgram | None = None
    parts: int = 1
    memory: memories.Memory | None = None
    lookup: lookups.Lookup | None = None
    atoms: F32 | None = None  # (K,): the last layer gives K logits for each value, the mean of that distribution (C51)

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise InvalidInput("not a network", given=fault, expected="layers whose shapes follow each other, float32")

    @property
    def unit_inputs(self) -> int:
        """Entries that the first layer takes, or the memory or lookup where no layer lies before it."""
        if self.lookup is not None:
            return self.lookup.inputs
        if self.memory is not None and self.memory.after == 0:
            return self.memory.inputs
        return int(self.layers[0].weight.shape[1])

    @property
    def inputs(self) -> int:
        """Entries of the flat encoded observation."""
        return self.view.flat_size if self.view is not None else self.unit_inputs

    @property
    def units(self) -> int:
        """Rows of the network for one observation."""
        return self.view.units if self.view is not None else 1

    @property
    def outputs(self) -> int:
        """k, the head's parameters for one observation."""
        extra = 0 if self.log_std is None else len(self.log_std)
        return self.units * (self.unit_outputs + extra)

    @property
    def unit_outputs(self) -> int:
        """What the last part gives for one unit."""
        if not self.layers:
            assert self.lookup is not None
            return int(self.lookup.table.shape[1])
        last = int(self.layers[-1].weight.shape[0])
        return last if self.atoms is None else last // len(self.atoms)

    @property
    def state_size(self) -> int:
        """Entries of the state of one row, that of all its units; 0 without a memory."""
        return 0 if self.memory is None else self.units * self.memory.state_size(observed=self.unit_inputs)

    def to_json(self) -> dict[str, Any]:
        """The program; its arrays are in `tensors`."""
        body: dict[str, Any] = {
            "layers": [{"activation": layer.activation} for layer in self.layers],
            "parts": self.parts,
            "log_std": self.log_std is not None,
            "view": self.view is not None,
        }
        if self.normaliser is not None:
            body["normaliser"] = {"clip": float(self.normaliser.clip)}
        if self.memory is not None:
            body["memory"] = self.memory.to_json()
        if self.atoms is not None:
            body["atoms"] = len(self.atoms)
        if self.lookup is not None:
            body["lookup"] = {"inputs": self.lookup.inputs}
        return body

    def tensors(self) -> dict[str, Array]:
        """All arrays by the names that a bundle uses."""
        out: dict[str, Array] = {}
        for i, layer in enumerate(self.layers):
            out[f"layers.{i}.weight"], out[f"layers.{i}.bias"] = layer.weight, layer.bias
        if self.normaliser is not None:
            out["normaliser.mean"], out["normaliser.std"] = self.normaliser.mean, self.normaliser.std
        if self.log_std is not None:
            out["log_std"] = self.log_std
        if self.memory is not None:
            out |= self.memory.tensors()
        if self.atoms is not None:
            out["atoms"] = self.atoms
        if self.lookup is not None:
            out |= self.lookup.tensors()
        if self.view is not None:
            out["view.index"], out["view.matrix"], out["view.offset"] = (
                self.view.index,
                self.view.matrix,
                self.view.offset,
            )
        return out


def from_json(body: Mapping[str, Any], *, tensors: Mapping[str, Array]) -> Network:
    """The network of `to_json` and `tensors`. Raises InvalidInput."""
    try:
        layers = tuple(
            Layer(
                weight=_f32(tensors[f"layers.{i}.weight"]),
                bias=_f32(tensors[f"layers.{i}.bias"]),
                activation=_activation(layer["activation"]),
            )
            for i, layer in enumerate(body["layers"])
        )
        normaliser, memory, lookup = (body.get(name) for name in ("normaliser", "memory", "lookup"))
        return Network(
            layers=layers,
            parts=int(body["parts"]),
            log_std=_f32(tensors["log_std"]) if body["log_std"] else None,
            view=_view(tensors) if body["view"] else None,
            memory=None if memory is None else memories.from_json(memory, tensors=tensors),
            atoms=_f32(tensors["atoms"]) if body.get("atoms") else None,
            lookup=None if lookup is None else lookups.from_tensors(tensors, inputs=int(lookup["inputs"])),
            normaliser=None
            if normaliser is None
            else Normaliser(
                mean=_f32(tensors["normaliser.mean"]),
                std=_f32(tensors["normaliser.std"]),
                clip=float(normaliser["clip"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("not a network", given=f"{error!r}", expected="the program of a manifest") from None


def _view(tensors: Mapping[str, Array]) -> views.ViewProgram:
    index = tensors["view.index"]
    if index.dtype != np.int64:
        msg = f"view.index has dtype {index.dtype}"
        raise ValueError(msg)
    return views.ViewProgram(
        index=index.astype(np.int64), matrix=_f32(tensors["view.matrix"]), offset=_f32(tensors["view.offset"])
    )


def _f32(array: Array) -> F32:
    if array.dtype != np.float32:
        msg = f"dtype {array.dtype}, not float32"
        raise ValueError(msg)
    return array.astype(np.float32, copy=False)


def _activation(name: Any) -> Activation:
    if name not in ACTIVATIONS:
        msg = f"activation {name!r}, not one of {', '.join(ACTIVATIONS)}"
        raise ValueError(msg)
    return cast("Activation", name)  # checked on the line above


def _faults(network: Network) -> list[str]:
    faults = [] if network.layers or network.lookup is not None else ["no layers"]
    memory = network.memory
    if memory is not None and network.lookup is not None:
        faults.append("a lookup and a memory")
    elif memory is not None:
        faults += memory.faults()
        if not 0 <= memory.after < len(network.layers):
            faults.append(f"memory after {memory.after} of {len(network.layers)} layers")
    return faults or [*_unchained(network), *_unmixed(network), *_not_numbers(network)]


def _unchained(network: Network) -> list[str]:
    """Where one part does not take what the part before it gives."""
    faults = []
    width = network.view.size if network.view is not None else network.unit_inputs
    if network.normaliser is not None:
        mean, std = network.normaliser.mean, network.normaliser.std
        if mean.shape != (width,) or std.shape != (width,) or not (std > 0).all() or not network.normaliser.clip > 0:
            faults.append(f"normaliser {mean.shape}, {std.shape}, clip {network.normaliser.clip} for {width} inputs")
    if network.lookup is not None:
        faults += network.lookup.faults(width=width)
        width = network.lookup.table.shape[-1]
    for i, layer in enumerate(network.layers):
        if network.memory is not None and network.memory.after == i:
            if network.memory.inputs != width:
                faults.append(f"a memory of {network.memory.inputs} inputs after {width} values")
            width = network.memory.outputs
        if layer.weight.ndim != 2 or layer.weight.shape[1] != width or layer.bias.shape != layer.weight.shape[:1]:
            faults.append(f"layer {i}: weight {layer.weight.shape}, bias {layer.bias.shape} after {width} values")
            break
        width = layer.weight.shape[0]
    if network.log_std is not None and (network.parts != 2 or network.log_std.shape != (width,)):
        faults.append(f"log_std {network.log_std.shape} beside a mean of {width} in {network.parts} parts")
    if network.parts < 1 or (network.log_std is None and width % network.parts):
        faults.append(f"{width} outputs in {network.parts} parts")
    return faults


def _unmixed(network: Network) -> list[str]:
    """Where outputs are no whole number of distributions over the atoms."""
    atoms, width = network.atoms, len(network.layers[-1].bias) if network.layers else 0
    if atoms is None or (
        atoms.ndim == 1 and len(atoms) > 1 and not width % len(atoms) and network.parts == 1 and network.log_std is None
    ):
        return []
    return [f"{width} outputs as values of {atoms.shape} atoms in {network.parts} parts"]


def _not_numbers(network: Network) -> list[str]:
    arrays = network.tensors()
    faults = [f"{name}: {a.dtype}" for name, a in arrays.items() if a.dtype not in {np.dtype("f4"), np.dtype("i8")}]
    return faults + [
        f"{name} is not finite" for name, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()
    ]
