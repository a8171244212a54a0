"""ViewProgram: from the flat observation of a factored env to one row per unit, as data, so that a bundle needs no env code.

Filled by `envs/view.py`, run by the NumPy and torch engines, baked into the ONNX graph by `onnx_graph.py`. Never learns
anything: gather and one affine map only.

`n` rows, `D` flat entries, `r` derived entries, `units`, `d` entries of a unit's observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, I64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewProgram:
    """extended (n, D + r) = [flat | flat @ matrix + offset]; unit observation [i, u, j] = extended[i, index[u, j]].

    A network mean is a column of `matrix` with 1/units at its entries, a constant is a zero column with an `offset`.
    """

    index: I64  # (units, d), entries 0 .. D + r - 1
    matrix: F32  # (D, r); r may be 0
    offset: F32  # (r,)

    def __post_init__(self) -> None:
        width = self.matrix.shape[0] + self.matrix.shape[1] if self.matrix.ndim == 2 else 0
        right = (
            self.index.ndim == 2
            and self.index.size > 0
            and self.offset.shape == self.matrix.shape[1:]
            and self.index.dtype == np.int64
            and self.matrix.dtype == self.offset.dtype == np.float32
            and int(self.index.min()) >= 0
            and int(self.index.max()) < width
        )
        if not right:
            shapes = [(array.shape, str(array.dtype)) for array in (self.index, self.matrix, self.offset)]
            raise InvalidInput(
                "not a view program",
                given=shapes,
                expected="index (units, d) int64 within D + r, matrix (D, r) float32, offset (r,) float32",
            )

    @property
    def units(self) -> int:
        """How many units share the network."""
        return int(self.index.shape[0])

    @property
    def size(self) -> int:
        """d, the entries of one unit's observation."""
        return int(self.index.shape[1])

    @property
    def flat_size(self) -> int:
        """D, the entries of the flat observation."""
        return int(self.matrix.shape[0])

    def with_weights(self, size: int) -> ViewProgram:
        """The program of a policy conditioned on `size` weights, which follow the flat observation: each unit observes them."""
        flat = self.flat_size
        moved = self.index + np.where(self.index >= flat, size, 0)
        each = np.broadcast_to(flat + np.arange(size, dtype=np.int64), (self.units, size))
        return ViewProgram(
            index=np.concatenate([moved, each], axis=1),
            matrix=np.concatenate([self.matrix, np.zeros((size, self.matrix.shape[1]), np.float32)]),
            offset=self.offset,
        )

    def apply(self, observations: F32) -> F32:
        """(n, D) -> (n, units, d)."""
        extended = np.concatenate([observations, observations @ self.matrix + self.offset], axis=1)
        return extended.take(self.index, axis=1)
