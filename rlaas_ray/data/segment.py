"""One file of the log: its whole batches from a row on, whether it is still written (Arrow stream) or sealed (Parquet).

Used by `data/decision_log.py` and `data/seal.py`. A torn tail (a writer killed in mid-write, or still writing) is left
unread and counted in bytes; it is never an error.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlaas_ray.data import schema
from rlaas_ray.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """Rows [first, rows) of a file as batches; `torn_bytes` are the ones behind the last whole batch."""

    batches: list[pa.RecordBatch]
    rows: int
    torn_bytes: int
    ended: bool


@dataclass(slots=True, eq=False)
class OpenSegment:
    """A `.arrows` file. Remembers where each batch begins, so that a later read starts there and not at the top."""

    path: Path
    # marks[i] = (rows before batch i, its byte offset); filled as batches are met.
    marks: list[tuple[int, int]] = field(default_factory=list)
    head: pa.Schema | None = None

    def read(self, first: int, *, until: int | None = None) -> Read:
        """Rows from `first` on (up to `until`), as whole as they lie there now."""
        with self.path.open("rb") as file:
            if self.head is None and not self._open(file.read(1 << 16)):
                return Read(batches=[], rows=0, torn_bytes=self.path.stat().st_size, ended=False)
            rows, offset = self._mark(first)
            file.seek(offset)
            data = pa.py_buffer(file.read())
        return self._scan(data, rows=rows, offset=offset, first=first, until=until)

    def _open(self, top: bytes) -> bool:
        reader = pa.BufferReader(top)
        try:
            self.head = pa.ipc.read_schema(reader)
        except (pa.ArrowInvalid, EOFError, OSError):
            return False
        version = (self.head.metadata or {}).get(b"rlaas.version")
        if version != schema.VERSION:
            raise InvalidInput(
                f"log file {self.path}", given=version, expected=f"schema version {schema.VERSION.decode()}"
            )
        self.marks.append((0, reader.tell()))
        return True

    def _mark(self, first: int) -> tuple[int, int]:
        return self.marks[bisect.bisect_right(self.marks, first, key=lambda mark: mark[0]) - 1]

    def _scan(self, data: pa.Buffer, *, rows: int, offset: int, first: int, until: int | None) -> Read:
        reader = pa.BufferReader(data)
        batches: list[pa.RecordBatch] = []
        whole, ended = 0, False
        while until is None or rows < until:
            try:
                message = pa.ipc.read_message(reader)
            except EOFError:
                # Either the end mark was read, or nothing at all is left.
                ended = reader.tell() - whole >= len(schema.EOS)
                whole = reader.tell()
                break
            except (pa.ArrowInvalid, OSError):
                break
            batch = pa.ipc.read_record_batch(message, self.head)
            low, high = max(first - rows, 0), batch.num_rows if until is None else min(batch.num_rows, until - rows)
            if low < high:
                batches.append(batch.slice(low, high - low))
            rows += batch.num_rows if until is None else high
            if until is not None and high < batch.num_rows:
                return Read(batches=batches, rows=rows, torn_bytes=0, ended=False)
            whole = reader.tell()
            if self.marks[-1][0] < rows:
                self.marks.append((rows, offset + whole))
        torn = 0 if until is not None and rows >= until else len(data) - whole
        return Read(batches=batches, rows=rows, torn_bytes=torn, ended=ended)


@dataclass(slots=True, eq=False)
class SealedSegment:
    """A `.parquet` file: complete, never changes; decoded once and kept while its cursor moves through it."""

    path: Path
    table: pa.Table | None = None

    def read(self, first: int, *, until: int | None = None) -> Read:
        """Rows from `first` on (up to `until`)."""
        if self.table is None:
            self.table = pq.read_table(self.path, partitioning=None)
        rows = self.table.num_rows if until is None else min(until, self.table.num_rows)
        batches = self.table.slice(first, max(rows - first, 0)).to_batches()
        return Read(batches=batches, rows=rows, torn_bytes=0, ended=True)
