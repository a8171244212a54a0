"""Memory: the part of a network that carries something from one decision to the next, as arrays and a short program.

Held by a Network between two of its layers. The state that travels is one flat float32 row per unit: h | c of an LSTM, h of a
GRU, the window of earlier observations of attention. Computed by the three engines; never computes anything itself.

`d` entries of a unit's observation, `i` entries that the memory takes, `h` entries that it gives, `w` steps of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from rlaas_ray.specs.arrays import F32, Array

Kind = Literal["lstm", "gru", "attention"]
KINDS: tuple[str, ...] = get_args(Kind)
GATES: Mapping[str, int] = {"lstm": 4, "gru": 3}
HIDDEN = -1e9  # the score of a place of the window that holds nothing: its weight is 0 after the softmax
PREFIX = "memory."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """`after`: how many of the network's layers lie before it. `arrays` by the names of `shapes`.

    LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al. 2014) are torch's equations with torch's layout and order of gates
    (i, f, g, o; r, z, n). Attention (Vaswani et al. 2017) is one causal head over the last `w` observations of the episode, each
    put through the layers before it: x_a of age a has the learned place p_a added; the output is tanh(output [x_0 | context]).
    """

    kind: Kind
    after: int
    arrays: Mapping[str, F32]

    @property
    def inputs(self) -> int:
        """Entries that the memory takes: i."""
        return int(self.arrays["position" if self.kind == "attention" else "weight_ih"].shape[1])

    @property
    def outputs(self) -> int:
        """Entries that it gives: h."""
        if self.kind == "attention":
            return int(self.arrays["query.weight"].shape[0])
        return int(self.arrays["weight_hh"].shape[1])

    @property
    def steps(self) -> int:
        """w: how many observations attention sees, this one among them; 1 for what keeps no window."""
        return int(self.arrays["position"].shape[0]) if self.kind == "attention" else 1

    def state_size(self, *, observed: int) -> int:
        """Entries of the state of one unit whose observation has `observed` entries."""
        match self.kind:
            case "lstm":
                return 2 * self.outputs
            case "gru":
                return self.outputs
            case "attention":
                return (self.steps - 1) * (1 + observed)  # a place is [taken | observation], the oldest first

    def faults(self) -> list[str]:
        """What is wrong with the arrays; nothing when they fit each other."""
        wanted = shapes(self.kind, inputs=0, outputs=0, steps=0)
        if set(self.arrays) != set(wanted):
            return [f"memory {self.kind} with {sorted(self.arrays)}, not {sorted(wanted)}"]
        flat = [f"memory: {n} has {a.ndim} axes" for n, a in self.arrays.items() if a.ndim != len(wanted[n])]
        if flat:
            return flat
        wanted = shapes(self.kind, inputs=self.inputs, outputs=self.outputs, steps=self.steps)
        found = [f"memory: {n} {a.shape}, not {wanted[n]}" for n, a in self.arrays.items() if a.shape != wanted[n]]
        if self.kind == "attention" and self.steps < 2:
            found.append("attention over a window of one observation remembers nothing")
        return found

    def to_json(self) -> dict[str, Any]:
        """The program; its arrays are in `tensors`."""
        return {"kind": self.kind, "after": self.after}

    def tensors(self) -> dict[str, Array]:
        """All arrays by the names that a bundle uses."""
        return {PREFIX + name: array for name, array in self.arrays.items()}


def shapes(kind: Kind, *, inputs: int, outputs: int, steps: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array, in the order of a training's flat vector."""
    if kind == "attention":
        return {
            "position": (steps, inputs),
            "query.weight": (outputs, inputs),
            "query.bias": (outputs,),
            "key.weight": (outputs, inputs),
            "value.weight": (outputs, inputs),
            "output.weight": (outputs, inputs + outputs),
            "output.bias": (outputs,),
        }
    wide = GATES[kind] * outputs
    return {"weight_ih": (wide, inputs), "weight_hh": (wide, outputs), "bias_ih": (wide,), "bias_hh": (wide,)}


def from_json(body: Mapping[str, Any], *, tensors: Mapping[str, Array]) -> Memory:
    """The memory of `to_json` and `tensors`. Raises KeyError, TypeError or ValueError: network.py says what that means."""
    kind = body["kind"]
    if kind not in KINDS or set(body) != {"kind", "after"} or type(body["after"]) is not int:
        msg = f"memory {dict(body)!r}, not a kind of {', '.join(KINDS)} and `after`"
        raise ValueError(msg)
    arrays = {}
    for name in shapes(kind, inputs=0, outputs=0, steps=0):
        array = tensors[PREFIX + name]
        if array.dtype != np.float32:
            msg = f"{PREFIX}{name}: dtype {array.dtype}, not float32"
            raise ValueError(msg)
        arrays[name] = array.astype(np.float32, copy=False)
    return Memory(kind=cast("Kind", kind), after=body["after"], arrays=arrays)  # checked above
