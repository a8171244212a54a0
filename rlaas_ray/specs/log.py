"""The decision log as columns: Decisions, Rewards, and the Cut that says which rows a judge has seen.

Produced by `data/decision_log.py`, folded by `evaluation/sequential.py`, replayed by tests. Arrays only: one row per
decision or reward, in the order of the log. Schema and file names are in `data/schema.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from rlaas_ray.specs.arrays import F32, F64, I32, I64, Array, Bool

# file stem (no suffix: .arrows while written, .parquet once sealed) -> rows of it that were read
Cut = Mapping[str, int]


class _Columns:
    """Row operations shared by both column sets."""

    __slots__ = ()

    def take(self, index: I64 | Bool) -> Self:
        """The rows at `index` (n,) or where a mask is true."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """All rows of all parts, in order. At least one part."""
        return cls(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(parts[0])})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions(_Columns):
    """n decisions. Text columns are object arrays of str; `observation` is (n, d) float32, encoded."""

    decision_id: Array  # (n,) str
    unit: Array  # (n,) str
    episode_id: Array  # (n,) str
    step: I32  # (n,)
    time_us: I64  # (n,)
    epoch: I64  # (n,)
    arm: Array  # (n,) str
    version: Array  # (n,) str
    bundle_digest: Array  # (n,) str
    observation: F32  # (n, d)
    action_proposed: F64  # (n, a)
    propensity: F64  # (n,)
    arm_probability: F64  # (n,)
    fallback: Array  # (n,) str, "" for none
    excluded: Array  # (n,) str, "" for none
    latency_us: I64  # (n,) of the row's own inference; -1: inferred together with others, not measured

    def __len__(self) -> int:
        return len(self.time_us)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rewards(_Columns):
    """m rewards; the key is (decision_id, step)."""

    decision_id: Array  # (m,) str
    step: I32  # (m,)
    reward: F64  # (m,)
    done: Bool  # (m,)
    truncated: Bool  # (m,)
    time_us: I64  # (m,) when the server took it

    def __len__(self) -> int:
        return len(self.time_us)
