"""Training rows: transitions in the order they happened, from the decision log, from its export, or from anybody's Parquet.

Read by train/offline. Joins rewards to decisions and puts episodes in order; never encodes an observation of somebody else's
file, never draws, never learns. The columns of a file are documented in docs/offline.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from rlaas_ray.data import decision_log
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

NEEDED = ("observation", "action", "reward")
OPTIONAL = ("terminated", "truncated", "episode_id", "step", "next_observation", "propensity")
_OF_THE_LOG = frozenset({"action_proposed", "rewards", "decision_id"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRows:
    """n transitions; those of an episode stand together, in order. Observations are raw unless `encoded`."""

    observation: Any  # (n, ...), or a list of n dicts or tuples
    action: F64  # (n, a), executed, in the env's units
    reward: F64  # (n,); NaN: nothing was ever reported
    terminated: Bool  # (n,)
    truncated: Bool  # (n,)
    follows: Bool  # (n,), the next row's observation is where this row led
    usable: Bool  # (n,), false: in its place in the episode, but not to learn from
    propensity: F64  # (n,), of the proposed action; NaN: unknown
    proposed: F64 | None = None  # (n, a), before the decoder
    next_observation: Any = None  # as `observation`, where the file has it
    mask: Bool | None = None  # (n, m), true where an action was allowed
    encoded: bool = False

    def __len__(self) -> int:
        return len(self.reward)


def of_log(root: str, *, endpoint: str) -> TrainingRows:
    """All decisions of an endpoint with their rewards. Raises NotFound where nothing is logged."""
    return from_decisions(decision_log.ArrowDecisionLog(root).joined(endpoint))


def of_parquet(given: str) -> TrainingRows:
    """A file, a folder of `*.parquet`, or a glob of such files, which all have the same columns."""
    paths = _paths(given)
    try:
        tables = [pq.read_table(path, partitioning=None) for path in paths]
        table = pa.concat_tables(tables)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput(
            "dataset", given=given, expected="Parquet files of one schema", cure=str(error).splitlines()[0]
        ) from None
    if table.num_rows == 0:
        raise InvalidInput("dataset", given=f"{given}: no rows", expected="one row or more")
    return from_decisions(table) if set(table.column_names) >= _OF_THE_LOG else from_columns(table)


def from_columns(table: pa.Table) -> TrainingRows:
    """A table with the columns `NEEDED` and any of `OPTIONAL`; without `episode_id`, rows stand in their order."""
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise InvalidInput(
            "columns of the dataset",
            given=sorted(table.column_names),
            expected=f"{', '.join(NEEDED)}, and perhaps {', '.join(OPTIONAL)}",
            cure=f"Add {', '.join(missing)}, or rename the columns that hold them.",
        )
    count = table.num_rows
    episode = _codes(table, "episode_id", count=count)
    step = _whole(table, "step") if "step" in table.column_names else np.arange(count)
    order = np.lexsort((step, episode))
    table, episode, step = table.take(pa.array(order)), episode[order], step[order]
    ended = _truth(table, "terminated") | _truth(table, "truncated")
    gapless = np.diff(step) <= 1 if "step" in table.column_names else np.ones(count - 1, dtype=np.bool_)
    following = None if "next_observation" not in table.column_names else _values(table, "next_observation")
    return TrainingRows(
        observation=_values(table, "observation"),
        action=_actions(table, "action"),
        reward=_number(table, "reward"),
        terminated=_truth(table, "terminated"),
        truncated=_truth(table, "truncated"),
        follows=_follows(episode, ended=ended, gapless=gapless),
        usable=np.ones(count, dtype=np.bool_),
        propensity=_number(table, "propensity") if "propensity" in table.column_names else np.full(count, np.nan),
        next_observation=following,
    )


def from_decisions(table: pa.Table) -> TrainingRows:
    """Decisions with a column `rewards`, as `rlaas log export` writes them.

    A decision's reward is the sum of its rewards (the first of each step). One without any counts as 0 where a later decision
    of its episode has one; after the last of them, what a decision earned is unknown. A decision without an `episode_id` of its
    own is an episode of one step. Answers of the fallback, and decisions that no arm's statistics count, are not usable.
    """
    table = _in_order(table)
    reward, ended, truncated = _rewards(table)
    ids = _texts(table, "decision_id")
    episode = _codes_of(_texts(table, "unit"), _texts(table, "episode_id"))
    alone = ids == _texts(table, "episode_id")
    terminated = (ended & ~truncated) | (alone & ~np.isnan(reward) & ~truncated)
    gapless = np.diff(_whole(table, "step")) <= 1
    return TrainingRows(
        observation=_values(table, "observation"),
        action=_logged(table, "action"),
        proposed=_logged(table, "action_proposed"),
        reward=_sparse(reward, episode=episode),
        terminated=terminated,
        truncated=truncated,
        follows=_follows(episode, ended=terminated | truncated, gapless=gapless),
        usable=(_texts(table, "fallback") == "") & (_texts(table, "excluded") == ""),
        propensity=_number(table, "propensity"),
        mask=_mask(table),
        encoded=True,
    )


def _in_order(table: pa.Table) -> pa.Table:
    """By unit, episode, step and time; a decision that was written twice counts once."""
    ids = _codes(table, "decision_id", count=table.num_rows)
    time_us = _whole(table, "time_us")
    by_time = np.lexsort((time_us, ids))
    first = by_time[np.concatenate([[True], np.diff(ids[by_time]) > 0])]
    table = table.take(pa.array(np.sort(first)))
    episode = _codes_of(_texts(table, "unit"), _texts(table, "episode_id"))
    return table.take(pa.array(np.lexsort((_whole(table, "time_us"), _whole(table, "step"), episode))))


def _rewards(table: pa.Table) -> tuple[F64, Bool, Bool]:
    """(sum of the rewards or NaN, whether one of them ends the episode, whether it truncates it), each (n,)."""
    count = table.num_rows
    column = table.column("rewards").combine_chunks()
    inner = compute.list_flatten(column)
    of = compute.list_parent_indices(column).to_numpy().astype(np.int64)
    step, time_us = (inner.field(name).to_numpy(zero_copy_only=False) for name in ("step", "time_us"))
    value = inner.field("reward").to_numpy(zero_copy_only=False).astype(np.float64)
    done, truncated = (
        inner.field(name).to_numpy(zero_copy_only=False).astype(np.bool_) for name in ("done", "truncated")
    )
    order = np.lexsort((time_us, step, of))
    changed = (np.diff(of[order]) != 0) | (np.diff(step[order]) != 0)
    kept = order[np.concatenate([[True], changed])] if len(order) else order
    kept = kept[np.isfinite(value[kept])]
    total = np.bincount(of[kept], weights=value[kept], minlength=count)
    known = np.bincount(of[kept], minlength=count) > 0
    ends = np.bincount(of[kept], weights=done[kept] | truncated[kept], minlength=count) > 0
    cut = np.bincount(of[kept], weights=truncated[kept], minlength=count) > 0
    return np.where(known, total, np.nan), ends, cut


def _sparse(reward: F64, *, episode: I64) -> F64:
    """Zero for the decisions without a reward that stand before one with a reward in their episode."""
    known = ~np.isnan(reward)
    last = np.full(int(episode.max(initial=-1)) + 1, -1, dtype=np.int64)
    rows = np.arange(len(reward))
    np.maximum.at(last, episode[known], rows[known])
    return np.where(~known & (rows < last[episode]), 0.0, reward)


def _follows(episode: I64, *, ended: Bool, gapless: Bool) -> Bool:
    same = np.diff(episode) == 0
    return np.concatenate([same & ~ended[:-1] & gapless, [False]])


def _paths(given: str) -> list[str]:
    path = Path(given.removeprefix("file://"))
    if path.is_dir():
        found = sorted(str(file) for file in path.rglob("*.parquet"))
    elif path.is_file():
        found = [str(path)]
    else:
        found = _matching(path)
    if not found:
        raise NotFound(
            "dataset",
            given=given,
            expected="a Parquet file, a folder or a glob of them, log:ENDPOINT, or minari:ID",
            cure="`rlaas log export ENDPOINT --to FILE.parquet` writes one.",
        )
    return found


def _matching(pattern: Path) -> list[str]:
    wild = next((i for i, part in enumerate(pattern.parts) if set(part) & set("*?[")), None)
    if wild is None:
        return []
    return sorted(str(file) for file in Path(*pattern.parts[:wild]).glob("/".join(pattern.parts[wild:])))


# --- columns as arrays ------------------------------------------------------------------------------------------------


def _texts(table: pa.Table, name: str) -> Array:
    """A text column (n,), null as ""."""
    listed = compute.fill_null(table.column(name).cast(pa.string()), "").to_pylist()
    out = np.empty(len(listed), dtype=object)
    out[:] = listed
    return out


def _codes(table: pa.Table, name: str, *, count: int) -> I64:
    """A number for each value of a column, by first appearance; zeros where there is no such column."""
    if name not in table.column_names:
        return np.zeros(count, dtype=np.int64)
    encoded = table.column(name).combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _codes_of(*columns: Array) -> I64:
    """A number for each combination of values, in order of first appearance."""
    seen: dict[tuple[Any, ...], int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in zip(*columns, strict=True)), np.int64)


def _number(table: pa.Table, name: str) -> F64:
    try:
        cast = table.column(name).cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _wrong(table, name, expected="numbers") from None
    return np.asarray(cast.to_numpy(), dtype=np.float64)


def _whole(table: pa.Table, name: str) -> I64:
    column = table.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise _wrong(table, name, expected="integers")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _truth(table: pa.Table, name: str) -> Bool:
    if name not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.bool_)
    try:
        column = compute.fill_null(table.column(name).cast(pa.bool_()), fill_value=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _wrong(table, name, expected="true or false") from None
    return np.asarray(column.to_numpy(), dtype=np.bool_)


def _values(table: pa.Table, name: str) -> Any:
    """A column of numbers or of equally long lists of numbers as an array; of structs as a list of dicts."""
    column = table.column(name).combine_chunks()
    if column.null_count:
        raise _wrong(table, name, expected="no nulls")
    shape: list[int] = []
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        width = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(width) != 1:
            raise _wrong(table, name, expected=f"lists of one length, not of {sorted(width)[:4]}")
        shape.append(int(width[0]))
        column = compute.list_flatten(column)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(table.num_rows, *shape)
    return table.column(name).to_pylist()


def _actions(table: pa.Table, name: str) -> F64:
    values = _values(table, name)
    if not isinstance(values, np.ndarray):
        raise _wrong(table, name, expected="numbers or lists of numbers")
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)


def _logged(table: pa.Table, name: str) -> F64:
    """Actions of the log: NaN where nothing answered."""
    return decision_log.matrix(table.column(name).combine_chunks(), width=decision_log.width_of([table], name))


def _mask(table: pa.Table) -> Bool | None:
    if "action_mask" not in table.column_names or table.column("action_mask").null_count:
        return None
    return np.asarray(_values(table, "action_mask"), dtype=np.bool_)


def _wrong(table: pa.Table, name: str, *, expected: str) -> InvalidInput:
    column = table.column(name)
    return InvalidInput(
        f"column {name!r} of the dataset", given=f"{column.type}, {column.null_count} nulls", expected=expected
    )
