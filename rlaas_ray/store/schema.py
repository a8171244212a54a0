"""Brings the database to this program's schema at start: under a lock, after a copy, never downwards.

Called by wiring before anything else touches the database. Refuses a database that a newer program made.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import alembic.config
import alembic.runtime.migration
import alembic.script

from rlaas_ray.errors import Refused
from rlaas_ray.store.database import Database


def migrate(database: Database) -> str:
    """Apply the missing revisions; gives the revision that the database has now. Raises Refused when it is newer than we are."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    script = alembic.script.ScriptDirectory.from_config(config)
    head = script.get_current_head() or ""
    with _lock(database):
        with database.engine.connect() as connection:
            current = alembic.runtime.migration.MigrationContext.configure(connection).get_current_revision()
        if current == head:
            return head
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise Refused(
                "the database was made by a newer version of this program",
                given=f"schema revision {current}",
                expected=f"at most {head}",
                cure="Install the newer version, or restore the copy that it made before it migrated.",
            )
        if current is not None:
            _copy(database, current)
        with database.engine.connect() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")
            connection.commit()
    return head


@contextlib.contextmanager
def _lock(database: Database) -> Iterator[None]:
    if not database.is_sqlite or not database.url.database:
        # PostgreSQL runs the whole upgrade in one transaction; a second migrator waits on alembic_version and finds it done.
        yield
        return
    with Path(database.url.database).with_suffix(".migrating").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(database: Database, revision: str) -> None:
    """The file as it was, beside it; SQLite's backup API gives a consistent copy of a live WAL database."""
    if not database.is_sqlite or not database.url.database:
        return
    source = Path(database.url.database)
    target = source.with_suffix(f".before-{revision}")
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
