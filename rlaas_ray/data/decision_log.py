"""Reading the decision log: rows beyond a cut, in one order, whoever wrote them and whether sealed or not.

`ArrowDecisionLog` implements `specs.seams.DecisionLog`; the judge tails it each second, `rlaas log export` reads it whole.
Never writes the log. Puts rewards beside their decisions in an export; which of them count is evaluation's.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from rlaas_ray.data import schema
from rlaas_ray.data.segment import OpenSegment, SealedSegment
from rlaas_ray.errors import NotBuilt, NotFound
from rlaas_ray.specs.arrays import F32, F64
from rlaas_ray.specs.log import Cut, Decisions, Rewards
from rlaas_ray.specs.seams import DecisionLog

# Decoded Parquet files kept at a time: a tail reads each once more at most, a replay walks them in order.
KEPT_SEALED = 4
KEPT_OPEN = 1024


class ArrowDecisionLog(DecisionLog):
    """The log below a directory. `torn_bytes` counts what the last read left unread behind whole batches."""

    def __init__(self, root: str) -> None:
        if "://" in root and not root.startswith("file://"):
            raise NotBuilt(
                "decision log in an object store",
                given=root,
                expected="a path on a disk or volume that the replicas share",
                cure="Set RLAAS_DATA_URL to a path, or mount the bucket.",
            )
        self._root = Path(root.removeprefix("file://"))
        self._open: OrderedDict[str, OpenSegment] = OrderedDict()
        self._sealed: OrderedDict[str, SealedSegment] = OrderedDict()
        self._sealed_rows: dict[str, int] = {}
        self.torn_bytes = 0

    def read(self, endpoint: str, *, after: Cut, until: Cut | None = None) -> tuple[Decisions, Rewards, Cut]:
        """Rows beyond `after` (up to `until`, else all whole ones), by (time_us, decision_id), and the new cut."""
        self.torn_bytes = 0
        cut = dict(after)
        decided = self._read("decisions", endpoint=endpoint, cut=cut, until=until)
        rewarded = self._read("rewards", endpoint=endpoint, cut=cut, until=until)
        return to_decisions(decided), to_rewards(rewarded), cut

    def find(self, decision_id: str) -> dict[str, Any]:
        """The row of a decision. An id that a replica gave leads to its files; one that a client gave is searched everywhere."""
        nonce = decision_id.rpartition("-")[0]
        for pattern in ([f"{nonce}-*"] if nonce else []) + ["*"]:
            for stem in self._stems("decisions", endpoint="*", pattern=pattern):
                read = self._segment_read(stem, first=0, until=None)
                for batch in read:
                    index = compute.index(batch.column("decision_id"), decision_id).as_py()
                    if index >= 0:
                        return dict(batch.slice(index, 1).to_pylist()[0])
        raise NotFound(
            "decision",
            given=decision_id,
            cure="An id stands in the log once its decision was answered with `logged: true`.",
        )

    def joined(self, endpoint: str) -> pa.Table:
        """All decisions of `endpoint`, by (time_us, decision_id), with their rewards: a list of structs in a last column."""
        decided = self._read("decisions", endpoint=endpoint, cut={}, until=None)
        if not decided:
            raise NotFound(
                "logged decisions of endpoint", given=endpoint, cure="`rlaas endpoints list` names the endpoints."
            )
        table = pa.Table.from_batches(decided).sort_by([("time_us", "ascending"), ("decision_id", "ascending")])
        rewards = self._read("rewards", endpoint=endpoint, cut={}, until=None)
        earned = pa.Table.from_batches(rewards) if rewards else schema.REWARDS.empty_table()
        return table.append_column("rewards", _beside(table.column("decision_id"), earned=earned))

    def export(self, endpoint: str, *, to: Path) -> int:
        """Write `joined` as one Parquet file; gives the row count."""
        table = self.joined(endpoint)
        pq.write_table(table, to, compression="zstd")
        return int(table.num_rows)

    def endpoints(self) -> list[str]:
        """Names that have a log."""
        return sorted(path.name.removeprefix("endpoint=") for path in (self._root / "decisions").glob("endpoint=*"))

    def _read(
        self, kind: schema.Kind, *, endpoint: str, cut: dict[str, int], until: Cut | None
    ) -> list[pa.RecordBatch]:
        """Batches of all files beyond `cut`, which moves forward to what was read."""
        batches: list[pa.RecordBatch] = []
        for stem in self._stems(kind, endpoint=endpoint, pattern="*"):
            first = cut.get(stem, 0)
            limit = None if until is None else until.get(stem, 0)
            if limit is not None and limit <= first:
                continue
            found = self._segment_read(stem, first=first, until=limit)
            if found:
                batches.extend(found)
                cut[stem] = first + sum(batch.num_rows for batch in found)
        return batches

    def _stems(self, kind: schema.Kind, *, endpoint: str, pattern: str) -> Iterator[str]:
        paths = (self._root / kind).glob(f"endpoint={endpoint}/date=*/{pattern}")
        suffixes = (schema.SUFFIX_OPEN, schema.SUFFIX_SEALED)
        yield from sorted(
            {str(path.relative_to(self._root).with_suffix("")) for path in paths if path.suffix in suffixes}
        )

    def _segment_read(self, stem: str, *, first: int, until: int | None) -> list[pa.RecordBatch]:
        sealed = self._root / (stem + schema.SUFFIX_SEALED)
        if not sealed.exists():
            try:
                read = self._opened(stem).read(first, until=until)
            except FileNotFoundError:
                pass  # sealed between the listing and the opening: the Parquet file is there now
            else:
                self.torn_bytes += read.torn_bytes
                return read.batches
        self._open.pop(stem, None)
        # A sealed file never grows: its row count, from the footer, spares decoding what was read long ago.
        if stem not in self._sealed_rows:
            self._sealed_rows[stem] = pq.read_metadata(sealed).num_rows
        if first >= self._sealed_rows[stem]:
            return []
        return self._sealed_segment(stem).read(first, until=until).batches

    def _opened(self, stem: str) -> OpenSegment:
        segment = self._open.setdefault(stem, OpenSegment(self._root / (stem + schema.SUFFIX_OPEN)))
        self._open.move_to_end(stem)
        while len(self._open) > KEPT_OPEN:
            self._open.popitem(last=False)
        return segment

    def _sealed_segment(self, stem: str) -> SealedSegment:
        segment = self._sealed.setdefault(stem, SealedSegment(self._root / (stem + schema.SUFFIX_SEALED)))
        self._sealed.move_to_end(stem)
        while len(self._sealed) > KEPT_SEALED:
            self._sealed.popitem(last=False)
        return segment


def to_decisions(batches: list[pa.RecordBatch]) -> Decisions:
    """Columns of the log as arrays, sorted by (time_us, decision_id)."""
    if not batches:
        return _no_decisions()
    parts = [
        Decisions(
            decision_id=schema.texts(b.column("decision_id")),
            unit=schema.texts(b.column("unit")),
            episode_id=schema.texts(b.column("episode_id")),
            step=b.column("step").to_numpy(),
            time_us=b.column("time_us").to_numpy(),
            epoch=b.column("epoch").to_numpy(),
            arm=schema.texts(b.column("arm")),
            version=schema.texts(b.column("version")),
            bundle_digest=schema.texts(b.column("bundle_digest")),
            observation=matrix(b.column("observation"), width=width_of([b], "observation")).astype(np.float32),
            action_proposed=matrix(b.column("action_proposed"), width=width_of(batches, "action_proposed")),
            propensity=b.column("propensity").to_numpy(),
            arm_probability=b.column("arm_probability").to_numpy(),
            fallback=schema.texts(b.column("fallback")),
            excluded=schema.texts(b.column("excluded")),
            latency_us=b.column("latency_us").fill_null(-1).to_numpy(),
        )
        for b in _merged(batches)
    ]
    rows = parts[0] if len(parts) == 1 else Decisions.concatenate(_equal_width(parts))
    return rows.take(np.lexsort((rows.decision_id, rows.time_us)))


def to_rewards(batches: list[pa.RecordBatch]) -> Rewards:
    """Columns of the rewards as arrays, sorted by (time_us, decision_id, step)."""
    if not batches:
        empty = np.empty(0, dtype=np.int64)
        return Rewards(
            decision_id=np.empty(0, dtype=object),
            step=empty.astype(np.int32),
            reward=empty.astype(np.float64),
            done=empty.astype(np.bool_),
            truncated=empty.astype(np.bool_),
            time_us=empty,
        )
    table = pa.Table.from_batches(batches)
    rows = Rewards(
        decision_id=schema.texts(table.column("decision_id")),
        step=table.column("step").to_numpy(),
        reward=table.column("reward").to_numpy(),
        done=table.column("done").to_numpy(),
        truncated=table.column("truncated").to_numpy(),
        time_us=table.column("time_us").to_numpy(),
    )
    return rows.take(np.lexsort((rows.step, rows.decision_id, rows.time_us)))


def _beside(decision_id: pa.ChunkedArray, *, earned: pa.Table) -> pa.Array:
    """For each decision the list of its rewards, in the order in which they were read."""
    ids = decision_id.combine_chunks().dictionary_encode()
    of = compute.fill_null(compute.index_in(earned.column("decision_id"), value_set=ids.dictionary), -1).to_numpy()
    order = np.argsort(of, kind="stable")
    order = order[of[order] >= 0]  # the others are rewards of no decision
    counts = np.bincount(of[order], minlength=len(ids.dictionary))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    rows = earned.drop_columns("decision_id").take(pa.array(order)).combine_chunks().to_struct_array()
    inner = rows.combine_chunks() if isinstance(rows, pa.ChunkedArray) else rows
    return pa.ListArray.from_arrays(pa.array(offsets), inner).take(ids.indices)


def _merged(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Few large batches, one run per schema: thousands of one-row batches are slow to turn into arrays one by one."""
    groups: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        groups.setdefault(str(batch.schema.field("observation").type), []).append(batch)
    return [pa.Table.from_batches(group).combine_chunks().to_batches()[0] for group in groups.values()]


def width_of(batches: Sequence[pa.RecordBatch | pa.Table], name: str) -> int:
    """The longest list in a column."""
    kind = batches[0].schema.field(name).type
    if isinstance(kind, pa.FixedSizeListType):
        return int(kind.list_size)
    return max((int(compute.max(compute.list_value_length(b.column(name))).as_py() or 0) for b in batches), default=0)


def matrix(column: pa.Array, *, width: int) -> F64:
    """Lists of numbers as (n, width) float64; a missing or shorter list is filled with NaN."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if len(flat) == len(column) * width:
        return np.asarray(flat, dtype=np.float64).reshape(len(column), width)
    out = np.full((len(column), width), np.nan)
    for row, values in enumerate(column.to_pylist()):
        if values:
            out[row, : len(values)] = values
    return out


def _equal_width(parts: list[Decisions]) -> list[Decisions]:
    # An endpoint that was deleted and made again with other spaces: narrower observations are filled with NaN.
    width = max(part.observation.shape[1] for part in parts)

    def padded(values: F32) -> F32:
        return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=np.nan)

    return [dataclasses.replace(part, observation=padded(part.observation)) for part in parts]


def _no_decisions() -> Decisions:
    whole = np.empty(0, dtype=np.int64)
    text = np.empty(0, dtype=object)
    return Decisions(
        decision_id=text,
        unit=text,
        episode_id=text,
        step=whole.astype(np.int32),
        time_us=whole,
        epoch=whole,
        arm=text,
        version=text,
        bundle_digest=text,
        observation=np.empty((0, 0), dtype=np.float32),
        action_proposed=np.empty((0, 0)),
        propensity=np.empty(0),
        arm_probability=np.empty(0),
        fallback=text,
        excluded=text,
        latency_us=whole,
    )
