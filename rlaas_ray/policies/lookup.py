"""Lookup: an observation falls into one cell, and a cell is one row of a table; how tables of values are policies like any other.

The first layer of a Network (network.py), computed by the engines; tabular Q-learning finds its rows with the same program. Which
entry is compared with which edge is decided where it is made. Never learns.

`n` rows, `d` encoded entries, `e` comparisons, `s` cells, `k` values of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32, I64, Array

_MOST_CELLS = 1 << 24  # float32 counts exactly up to here
_HALF = 0.5  # an encoded category is 0 or 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """cell = sum over e of stride[e] * (x[source[e]] >= edge[e]): exact in every engine, whatever the order of the sum."""

    source: I64  # (e,)
    edge: F32  # (e,)
    stride: F32  # (e,), whole numbers
    inputs: int  # d

    def of(self, observations: F32) -> I64:
        """(n, d) -> (n,), from 0."""
        found: I64 = ((observations[:, self.source] >= self.edge) @ self.stride).astype(np.int64)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookup:
    """The row of `table` that an observation's cell names."""

    cells: Cells
    table: F32  # (s, k)

    @property
    def inputs(self) -> int:
        """Entries that the cells look at, or leave out: d."""
        return self.cells.inputs

    def apply(self, observations: F32) -> F32:
        """(n, d) -> (n, k), a copy. What no observation of the space is encoded to takes the last row at most."""
        return self.table[np.minimum(self.cells.of(observations), len(self.table) - 1)]

    def tensors(self) -> dict[str, Array]:
        """All arrays by the names that a bundle uses."""
        cells = self.cells
        return {
            "lookup.source": cells.source,
            "lookup.edge": cells.edge,
            "lookup.stride": cells.stride,
            "lookup.table": self.table,
        }

    def faults(self, *, width: int) -> list[str]:
        """Why this cannot follow `width` values; empty where it can."""
        source, edge, stride = self.cells.source, self.cells.edge, self.cells.stride
        if self.table.ndim != 2 or source.ndim != 1 or not len(source) == len(edge) == len(stride) > 0:
            return [f"lookup: table {self.table.shape}, {source.shape}, {edge.shape}, {stride.shape} comparisons"]
        if self.inputs != width or source.min() < 0 or source.max() >= width:
            return [f"lookup of {self.inputs} values after {width}"]
        if len(self.table) == 0 or not ((stride >= 0) & (stride == np.floor(stride))).all():
            return [f"lookup: strides that are no whole numbers, {len(self.table)} rows"]
        return []


def from_tensors(tensors: Mapping[str, Array], *, inputs: int) -> Lookup:
    """The inverse of `Lookup.tensors`. Raises KeyError or ValueError."""
    source, table = tensors["lookup.source"], tensors["lookup.table"]
    edge, stride = tensors["lookup.edge"], tensors["lookup.stride"]
    if source.dtype != np.int64 or not table.dtype == edge.dtype == stride.dtype == np.float32:
        msg = f"lookup of {source.dtype}, {edge.dtype}, {stride.dtype}, {table.dtype}"
        raise ValueError(msg)
    cells = Cells(
        source=source.astype(np.int64), edge=edge.astype(np.float32), stride=stride.astype(np.float32), inputs=inputs
    )
    return Lookup(cells=cells, table=table.astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """How a number becomes a category: `count` equal bins from low to high; the outer two take what lies beyond."""

    count: int
    low: float
    high: float


def cells_of(space: spaces.Space, *, bins: Sequence[Bins] = ()) -> tuple[Cells, int]:
    """The cells of all combinations of a space's categories, and their number s; `bins` of its Box entries in encoded order.

    Raises InvalidInput where bins are missing or too many, NotBuilt for a space that cannot be encoded.
    """
    inputs = spaces.encoded_size(space)
    left = list(bins)
    blocks = _blocks(space, bins=left)
    if left:
        raise InvalidInput(
            f"bins of a table over {space}",
            given=f"{len(bins)}",
            expected=f"{len(bins) - len(left)}, one for each number",
            cure="Leave out those that are too many.",
        )
    count = math.prod(block.size for block in blocks)
    if not 1 < count <= _MOST_CELLS:
        raise InvalidInput(
            "cells of a table", given=f"{count:,}", expected=f"2 to {_MOST_CELLS:,}", cure="Choose other bins."
        )
    source, edge, stride, at, below = [], [], [], 0, count
    for block in blocks:
        below //= block.size
        source += [at + entry for entry in block.entries]
        edge += block.edges
        stride += [below * worth for worth in block.worth]
        at += block.width
    made = Cells(
        source=np.asarray(source, dtype=np.int64),
        edge=np.asarray(edge, dtype=np.float32),
        stride=np.asarray(stride, dtype=np.float32),
        inputs=inputs,
    )
    return made, count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One category or number of an encoded observation: entries compared with edges, and what passing each is worth."""

    size: int
    width: int
    entries: list[int]
    edges: list[float]
    worth: list[int]


def _blocks(space: spaces.Space, *, bins: list[Bins]) -> list[_Block]:
    """In encoded order; takes its bins from the front of `bins`."""
    match space:
        case gs.Discrete():
            return [_category(int(space.n))]
        case gs.MultiDiscrete():
            return [_category(int(n)) for n in space.nvec.ravel()]
        case gs.MultiBinary():
            return [_Block(size=2, width=1, entries=[0], edges=[_HALF], worth=[1])] * math.prod(space.shape)
        case gs.Dict():
            keys = [key for key in sorted(space.spaces) if key != spaces.MASK]
            return [block for key in keys for block in _blocks(space.spaces[key], bins=bins)]
        case gs.Tuple():
            return [block for part in space.spaces for block in _blocks(part, bins=bins)]
        case _:
            return [_number(bins, space=space) for _ in range(math.prod(space.shape or ()))]


def _category(size: int) -> _Block:
    return _Block(
        size=size,
        width=size,
        entries=list(range(1, size)),
        edges=[_HALF] * (size - 1),
        worth=list(range(1, size)),
    )


def _number(bins: list[Bins], *, space: spaces.Space) -> _Block:
    if not bins:
        raise InvalidInput(
            f"a table over {space}",
            given="no bins for some numbers",
            expected="bins, bin_low and bin_high: one of each for every number",
            cure="Name them, as in `--set bins=[6,6] --set bin_low=[-1,-1] --set bin_high=[1,1]`.",
        )
    one = bins.pop(0)
    edges = np.linspace(one.low, one.high, one.count + 1)[1:-1].tolist()
    return _Block(size=one.count, width=1, entries=[0] * len(edges), edges=edges, worth=[1] * len(edges))
