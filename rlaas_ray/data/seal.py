"""Turns finished Arrow streams into Parquet files of the same rows in the same order.

Called by the parent of a data plane for what its child has rotated and for what a dead process left behind. Never touches
a file that its writer still holds: the writer keeps an exclusive lock (`flock`) on it, which the kernel drops with the process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlaas_ray.data import schema
from rlaas_ray.data.segment import OpenSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What became of one stream."""

    path: Path
    rows: int
    torn_bytes: int


def seal_all(root: str | Path) -> list[Sealed]:
    """Seal every stream below `root` that nobody writes. Streams still held by a writer are left for later."""
    return [sealed for path in _streams(Path(root)) if (sealed := seal(path)) is not None]


def seal(path: Path) -> Sealed | None:
    """Seal one stream; None while its writer lives, or when somebody else has sealed it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if not path.exists():
            return None
        return _seal(path)
    finally:
        os.close(descriptor)


def _seal(path: Path) -> Sealed:
    segment = OpenSegment(path)
    read = segment.read(0)
    target = path.with_suffix(schema.SUFFIX_SEALED)
    if read.rows:
        temporary = target.with_suffix(".parquet.part")
        pq.write_table(pa.Table.from_batches(read.batches, schema=segment.head), temporary, compression="zstd")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # The Parquet file appears whole, then the stream goes: a reader sees one of them or both, never neither.
        temporary.rename(target)
    path.unlink()
    return Sealed(path=target, rows=read.rows, torn_bytes=read.torn_bytes)


def _streams(root: Path) -> Iterator[Path]:
    for kind in ("decisions", "rewards", "shadows"):
        yield from sorted((root / kind).glob(f"endpoint=*/date=*/*{schema.SUFFIX_OPEN}"))
