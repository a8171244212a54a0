"""The metadata database: one engine, transactions that cannot fail half-way through by an upgrade of a lock.

Called by control (through Application) and by wiring. Never holds a transaction across a network or a Ray call; callers
keep them under 50 ms. SQLite by default, PostgreSQL by URL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

Connection = sa.Connection

# wal: readers never wait for the writer. FULL: a commit that was acknowledged survives loss of power (NORMAL does not);
# measured 3,000 transactions/s, and our load is below 100.
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA busy_timeout=10000",
    "PRAGMA foreign_keys=ON",
    "PRAGMA wal_autocheckpoint=1000",
)
_LOCK_AUDIT = (
    0x726C6161  # "rlaa": the advisory lock that orders writers on PostgreSQL, as BEGIN IMMEDIATE does on SQLite
)


class Database:
    """`write()` and `read()` give a connection inside a transaction that commits at the end of the block."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        # 8 threads of the API use it at a time; more wait for a connection rather than for the file's lock.
        self._engine = sa.create_engine(self.url, pool_size=8, max_overflow=8, pool_pre_ping=not self.is_sqlite)
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _configure)
            sa.event.listen(self._engine, "begin", _begin)

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> sa.Engine:
        """For migrations."""
        return self._engine

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement, so that read-then-write cannot be refused."""
        with self._engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_AUDIT)))
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot for reading; waits for nobody."""
        with self._engine.connect().execution_options(rlaas_read=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _configure(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling begins deferred ones; ours are begun by `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once under contention, whatever the busy timeout
    # (measured: 1,063 of 2,000); an immediate one waits.
    reading = connection.get_execution_options().get("rlaas_read", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def to_text(value: Any) -> str:
    """Canonical JSON text, the form of every *_json column."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def from_text(text: str | None) -> Any:
    """The value of a *_json column; None stays None."""
    return None if text is None else orjson.loads(text)
