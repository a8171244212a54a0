"""What an agent has lived through: a ring of transitions in preallocated arrays, drawn from uniformly, kept as Parquet.

Called by agent.py. Draws by the generator that it is handed. Never reads a pickle.

`B` rows, `n` operators (padded to `operators`), `k` candidates of the next dataflow, `F` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rlaas_ray.errors import Conflict, InvalidInput, NotFound
from rlaas_ray.policies.lastream.operators import STATE
from rlaas_ray.specs.arrays import F64, I64

Column = npt.NDArray[Any]  # each has a dtype of its own
Columns = Mapping[str, Column]
_META = b"rlaas.replay"


class Replay:
    """A ring of `capacity` transitions.

    Columns: `features` (n, STATE), `current` and `demand` (n,), each with `next_` as well, `adjacency` (n, n), `mask` (n,),
    `scheme` (n,), `next_schemes` (k, n), `limit` (the P of p/P), `reward`, `discount` (of what follows; 0: nothing does),
    `propensity`.
    """

    def __init__(self, capacity: int, *, operators: int, candidates: int) -> None:
        if capacity < 1:
            raise InvalidInput("experience_buffer_size", given=capacity, expected="1 or more")
        n = operators
        shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            **{
                f"{when}{name}": (shape, kind)
                for when in ("", "next_")
                for name, shape, kind in (
                    ("features", (n, STATE), np.float32),
                    ("current", (n,), np.int32),
                    ("demand", (n,), np.float64),
                )
            },
            "adjacency": ((n, n), np.float32),
            "mask": ((n,), np.float32),
            "scheme": ((n,), np.int32),
            "next_schemes": ((candidates, n), np.int32),
            "limit": ((), np.int32),
            "reward": ((), np.float64),
            "discount": ((), np.float64),
            "propensity": ((), np.float64),
        }
        self.capacity, self.operators, self.candidates = capacity, operators, candidates
        self._rows: dict[str, Column] = {
            name: np.zeros((capacity, *shape), dtype=kind) for name, (shape, kind) in shapes.items()
        }
        self._next, self._size = 0, 0

    def __len__(self) -> int:
        return self._size

    def add(self, columns: Columns) -> None:
        """Append B rows, over the oldest where it is full; columns with fewer operators or candidates are padded with zeros."""
        count = len(columns["reward"])
        missing = [name for name in self._rows if name not in columns]
        if missing:
            raise InvalidInput("columns of a transition", given=sorted(columns), expected=f"also {missing[0]}")
        at = (self._next + np.arange(count)) % self.capacity
        for name, kept in self._rows.items():
            given = columns[name]
            if any(have > room for have, room in zip(given.shape[1:], kept.shape[1:], strict=True)):
                raise InvalidInput(
                    f"{name} of a transition", given=given.shape[1:], expected=f"at most {kept.shape[1:]}"
                )
            kept[at] = 0
            inside: tuple[Any, ...] = (at, *(slice(size) for size in given.shape[1:]))
            kept[inside] = given
        self._next = int((self._next + count) % self.capacity)
        self._size = min(self.capacity, self._size + count)

    def sample(self, size: int, *, rng: np.random.Generator) -> Columns:
        """`size` rows, uniformly, with replacement. Raises Conflict while it is empty."""
        if not self._size:
            raise Conflict("the replay is empty", cure="Call store_experience first.")
        return self._at(rng.integers(self._size, size=size))

    def rewards(self) -> F64:
        """Rewards of all rows, oldest first."""
        found: F64 = np.asarray(self._at(self._order())["reward"], dtype=np.float64)
        return found

    def columns(self) -> Columns:
        """All rows, oldest first."""
        return self._at(self._order())

    def save(self, path: Path) -> None:
        """As Parquet: arrays flat, one list a row."""
        rows = self.columns()
        table = pa.table(
            {
                name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), int(np.prod(values.shape[1:])))
                if values.ndim > 1
                else pa.array(values)
                for name, values in rows.items()
            }
        )
        shape = f"{self.capacity},{self.operators},{self.candidates}".encode()
        pq.write_table(table.replace_schema_metadata({_META: shape}), path)

    @classmethod
    def load(cls, path: Path) -> Replay:
        """The inverse. Raises NotFound, and InvalidInput for another file."""
        if not path.exists():
            raise NotFound(f"the replay {path}", expected="a Parquet file that an agent has saved")
        table = pq.read_table(path)
        told = (table.schema.metadata or {}).get(_META)
        if told is None:
            raise InvalidInput(f"the replay {path}", given=table.column_names[:8], expected="what an agent has saved")
        capacity, operators, candidates = (int(part) for part in told.decode().split(","))
        made = cls(capacity, operators=operators, candidates=candidates)
        found = {}
        for name, kept in made._rows.items():
            column = table.column(name).combine_chunks()
            flat = column.flatten() if kept.ndim > 1 else column
            found[name] = flat.to_numpy(zero_copy_only=False).reshape(-1, *kept.shape[1:]).astype(kept.dtype)
        if table.num_rows:
            made.add(found)
        return made

    def _order(self) -> I64:
        first = self._next if self._size == self.capacity else 0
        return (first + np.arange(self._size)) % self.capacity

    def _at(self, rows: I64) -> Columns:
        return {name: values[rows] for name, values in self._rows.items()}
