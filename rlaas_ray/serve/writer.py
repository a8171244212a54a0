"""Writes decisions and rewards down before they are answered: one Arrow stream per process, endpoint and kind.

Called by `decide.py` once per endpoint and turn of the loop, by `rewards.py` and by `shadow.py`, on the loop's thread:
`write(2)` has returned before it does. Knows no column: `_row` in `decide.py` makes a decision's row.
`fsync` runs in a thread of its own each 200 ms. A failing disk never raises here: the caller is told False and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlaas_ray.data import schema
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.specs.seams import Clock

ROTATE_BYTES = 64 << 20
ROTATE_S = 600.0
SYNC_S = 0.2
_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Stream:
    """An open file and how far it is known to be whole."""

    descriptor: int
    path: Path
    opened_s: float
    schema: pa.Schema
    whole: int = 0
    rows: int = 0


class DecisionWriter:
    """The log of one process; `dropped` rows were not taken. `write` is the system call; a test hands in one that fails."""

    def __init__(
        self,
        root: Path,
        *,
        nonce: str,
        clock: Clock,
        metrics: ServingMetrics,
        write: Callable[[int, Any], int] = os.write,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self._root = root
        self._nonce = nonce
        self._clock = clock
        self._metrics = metrics
        self._write = write
        self._sequence = 0
        self._streams: dict[tuple[schema.Kind, str], _Stream] = {}
        self._failing: set[str] = set()
        self.dropped = 0
        self._syncer = _Syncer(sync=sync, metrics=metrics)

    def append(self, kind: schema.Kind, *, endpoint: str, rows: Sequence[Mapping[str, Any]], form: pa.Schema) -> bool:
        """Write the rows as one record batch. False when the disk did not take them; then no part of them stays behind."""
        batch = schema.batch(rows, form=form)
        key = (kind, endpoint)
        try:
            stream = self._stream(key, form)
            self._put(stream, batch.serialize())
        except OSError as error:
            self._failed(key, error=error, rows=batch.num_rows)
            return False
        stream.rows += batch.num_rows
        self._syncer.wrote(stream.descriptor)
        if endpoint in self._failing:
            self._failing.discard(endpoint)
            _logger.warning("decision log of %s is written again: %s", endpoint, stream.path)
        if stream.whole >= ROTATE_BYTES:
            self._end(key)
        return True

    def when_synced(self, done: Callable[[bool], None]) -> None:
        """Call `done(ok)` from the fsync thread once all that was appended until now is on the disk."""
        self._syncer.when_synced(done)

    def tick(self) -> None:
        """Rotate what is open for too long; called from the loop every now and then, so that quiet endpoints are sealed too."""
        now_s = self._clock.monotonic_s()
        for key in [k for k, stream in self._streams.items() if now_s - stream.opened_s >= ROTATE_S]:
            self._end(key)

    def close(self) -> None:
        """End every stream and wait for the last fsync."""
        for key in list(self._streams):
            self._end(key)
        self._syncer.close()

    def _stream(self, key: tuple[schema.Kind, str], form: pa.Schema) -> _Stream:
        stream = self._streams.get(key)
        if stream is not None and stream.schema is not form:
            self._end(key)
            stream = None
        if stream is None:
            stream = self._streams[key] = self._create(key, form)
        return stream

    def _create(self, key: tuple[schema.Kind, str], form: pa.Schema) -> _Stream:
        kind, endpoint = key
        folder = self._root / schema.folder(kind, endpoint=endpoint, time_us=self._clock.now_us())
        folder.mkdir(parents=True, exist_ok=True)
        self._sequence += 1
        path = folder / schema.file_name(nonce=self._nonce, sequence=self._sequence)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        stream = _Stream(descriptor=descriptor, path=path, opened_s=self._clock.monotonic_s(), schema=form)
        try:
            # Held until this process ends, however it ends: `data/seal.py` takes no file that a writer still has.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._put(stream, form.serialize())
        except OSError:
            self._discard(stream)
            raise
        self._syncer.entered(folder)
        return stream

    def _put(self, stream: _Stream, data: pa.Buffer) -> None:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += self._write(stream.descriptor, view[done:])
        stream.whole += len(view)
        self._metrics.log_bytes.inc(len(view))

    def _failed(self, key: tuple[schema.Kind, str], *, error: OSError, rows: int) -> None:
        kind, endpoint = key
        self.dropped += rows
        self._metrics.log_dropped.labels(endpoint, kind).inc(rows)
        if endpoint not in self._failing:
            self._failing.add(endpoint)
            _logger.error("decision log of %s cannot be written: %s", endpoint, error)
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._discard(stream)

    def _discard(self, stream: _Stream) -> None:
        """Cut a half-written batch off and leave the file; the next turn begins a fresh one."""
        with contextlib.suppress(OSError):
            os.ftruncate(stream.descriptor, stream.whole)
        if not stream.rows:
            with contextlib.suppress(OSError):
                stream.path.unlink()
        self._syncer.leave(stream.descriptor)

    def _end(self, key: tuple[schema.Kind, str]) -> None:
        stream = self._streams.pop(key)
        # The end mark is a courtesy to readers; a stream without one reads just as well.
        with contextlib.suppress(OSError):
            self._put(stream, pa.py_buffer(schema.EOS))
        self._syncer.leave(stream.descriptor)


class _Syncer:
    """The thread that calls fsync: each 200 ms, or at once when an answer waits for it. Closes files that the writer left."""

    def __init__(self, *, sync: Callable[[int], None], metrics: ServingMetrics) -> None:
        self._sync = sync
        self._metrics = metrics
        self._wake = threading.Condition()
        self._dirty: set[int] = set()
        self._folders: set[Path] = set()
        self._left: list[int] = []
        self._waiting: list[Callable[[bool], None]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="rlaas-fsync", daemon=True)
        self._thread.start()

    def wrote(self, descriptor: int) -> None:
        with self._wake:
            self._dirty.add(descriptor)

    def entered(self, folder: Path) -> None:
        with self._wake:
            self._folders.add(folder)

    def leave(self, descriptor: int) -> None:
        with self._wake:
            self._dirty.add(descriptor)
            self._left.append(descriptor)

    def when_synced(self, done: Callable[[bool], None]) -> None:
        with self._wake:
            self._waiting.append(done)
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._closing and not self._waiting:
                    self._wake.wait(SYNC_S)
                dirty, self._dirty = self._dirty, set()
                folders, self._folders = self._folders, set()
                left, self._left = self._left, []
                waiting, self._waiting = self._waiting, []
                closing = self._closing
            ok = self._flush(dirty, folders=folders)
            for descriptor in left:
                os.close(descriptor)
            for done in waiting:
                done(ok)
            if closing:
                return

    def _flush(self, dirty: set[int], *, folders: set[Path]) -> bool:
        ok = True
        for descriptor in dirty:
            ok = self._attempt(descriptor) and ok
        for folder in folders:
            # A new file is only sure to be found after a crash once its directory is on the disk.
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                ok = False
                continue
            ok = self._attempt(descriptor) and ok
            os.close(descriptor)
        return ok

    def _attempt(self, descriptor: int) -> bool:
        try:
            self._sync(descriptor)
        except OSError as error:
            self._metrics.log_sync_failed.inc()
            _logger.error("fsync of the decision log failed: %s", error)  # noqa: TRY400 (the trace says nothing more)
            return False
        return True
