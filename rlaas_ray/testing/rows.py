"""Rows of a decision log made from the few columns that a test or a simulation cares about.

Called by tests and benchmarks; never by the product. Columns that are not given get a plain value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlaas_ray.specs.arrays import Array
from rlaas_ray.specs.log import Decisions, Rewards


def decisions(decision_id: Sequence[str], **columns: Any) -> Decisions:
    """Decisions, n of them. A column is n values, or one for all rows; `unit` and `episode_id` default to the id."""
    count = len(decision_id)
    names = _text(decision_id, count=count)

    def text(name: str, default: Any = "") -> Array:
        return _text(columns.pop(name, default), count=count)

    def number(name: str, *, default: Any, dtype: Any) -> Any:
        return np.broadcast_to(np.asarray(columns.pop(name, default), dtype), (count,)).copy()

    made = Decisions(
        decision_id=names,
        unit=text("unit", names),
        episode_id=text("episode_id", names),
        step=number("step", default=0, dtype=np.int32),
        time_us=number("time_us", default=0, dtype=np.int64),
        epoch=number("epoch", default=1, dtype=np.int64),
        arm=text("arm", "champion"),
        version=text("version"),
        bundle_digest=text("bundle_digest"),
        observation=np.asarray(columns.pop("observation", np.zeros((count, 1))), np.float32),
        action_proposed=np.zeros((count, 1)),
        propensity=np.ones(count),
        arm_probability=number("arm_probability", default=1.0, dtype=np.float64),
        fallback=text("fallback"),
        excluded=text("excluded"),
        latency_us=number("latency_us", default=1_000, dtype=np.int64),
    )
    if columns:
        raise TypeError(f"no such columns of a decision: {sorted(columns)}")
    return made


def rewards(decision_id: Sequence[str], **columns: Any) -> Rewards:
    """Rewards, m of them: `reward`, `time_us`, and `step` 0, `done` true, `truncated` false unless given."""
    count = len(decision_id)

    def number(name: str, *, default: Any, dtype: Any) -> Any:
        return np.broadcast_to(np.asarray(columns.pop(name, default), dtype), (count,)).copy()

    made = Rewards(
        decision_id=_text(decision_id, count=count),
        step=number("step", default=0, dtype=np.int32),
        reward=number("reward", default=0.0, dtype=np.float64),
        done=number("done", default=True, dtype=np.bool_),
        truncated=number("truncated", default=False, dtype=np.bool_),
        time_us=number("time_us", default=0, dtype=np.int64),
    )
    if columns:
        raise TypeError(f"no such columns of a reward: {sorted(columns)}")
    return made


def _text(values: Any, *, count: int) -> Array:
    column = np.empty(count, object)
    column[:] = values if isinstance(values, str) else list(values)
    return column
