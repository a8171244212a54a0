"""Transactions under contention and under SIGKILL; the schema and its revisions."""

import os
import signal
import subprocess
import sys

import alembic.autogenerate
import alembic.runtime.migration
import pytest
import sqlalchemy as sa

from rlaas_ray.errors import Refused
from rlaas_ray.store import database, leases, schema, tables

WRITER = """
import sys
import sqlalchemy as sa
from rlaas_ray.store import database
from rlaas_ray.store.tables import leases
db = database.Database(sys.argv[1])
for i in range(int(sys.argv[2])):
    with db.write() as tx:
        fence = tx.execute(sa.select(leases.c.fence).where(leases.c.name == "x")).scalar_one()
        done = tx.execute(sa.update(leases).where(leases.c.name == "x", leases.c.fence == fence).values(fence=fence + 1))
        assert done.rowcount == 1
    print(fence + 1, flush=True)
"""


@pytest.fixture
def db(tmp_path):
    made = database.Database(f"sqlite:///{tmp_path}/rlaas.db")
    schema.migrate(made)
    with made.write() as tx:
        tx.execute(tables.leases.insert().values(name="x", owner="nobody", until_us=0, fence=0))
    yield made
    made.close()


def fence(db: database.Database) -> int:
    with db.read() as tx:
        return tx.execute(sa.select(tables.leases.c.fence)).scalar_one()


def start(db: database.Database, *, count: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(db.url), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_four_processes_count_to_exactly_the_sum_and_none_is_refused(db) -> None:
    writers = [start(db, count=200) for _ in range(4)]
    told = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, told
    assert fence(db) == 800


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_it_acknowledged(db) -> None:
    for _ in range(5):
        writer = start(db, count=100_000)
        told = [int(writer.stdout.readline()) for _ in range(30)]
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
        told += [int(line) for line in rest.splitlines() if line]
        assert fence(db) >= max(told)
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_failing_block_changes_nothing(db) -> None:
    def fails() -> None:
        with db.write() as tx:
            tx.execute(sa.update(tables.leases).values(fence=99))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert fence(db) == 0


def test_readers_do_not_wait_for_a_writer(db) -> None:
    with db.write() as tx:
        tx.execute(sa.update(tables.leases).values(fence=7))
        assert fence(db) == 0
    assert fence(db) == 7


def test_commits_survive_loss_of_power(db) -> None:
    with db.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_the_revisions_build_exactly_the_tables(db) -> None:
    with db.engine.connect() as connection:
        context = alembic.runtime.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []


def test_migrating_twice_changes_nothing(db) -> None:
    assert schema.migrate(db) == schema.migrate(db)


def test_a_database_of_a_newer_program_is_refused_with_both_revisions(db) -> None:
    with db.write() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Refused) as caught:
        schema.migrate(db)
    assert "9999" in caught.value.detail
    assert "0001" in caught.value.detail
    assert caught.value.cure


def test_a_lease_is_one_holders_until_it_ends_and_the_fence_rises_with_the_holder(db) -> None:
    def take(owner: str, *, now_us: int, dead: bool = False) -> leases.Lease | None:
        with db.write() as tx:
            return leases.take(tx, "controller", owner=owner, now_us=now_us, for_s=10, dead=lambda _: dead)

    first = take("a", now_us=0)
    assert first is not None
    assert first.fence == 1
    assert take("b", now_us=9_000_000) is None
    assert take("a", now_us=9_000_000).fence == 1
    later = take("b", now_us=20_000_000)
    assert later.fence == 2
    with db.read() as tx, pytest.raises(leases.LostLease):
        leases.check(tx, first)
    assert take("c", now_us=20_000_001, dead=True).fence == 3


@pytest.mark.real
@pytest.mark.skipif(
    "RLAAS_TEST_POSTGRES" not in os.environ, reason="RLAAS_TEST_POSTGRES names no PostgreSQL to test on"
)
def test_postgresql_takes_the_same_schema() -> None:
    made = database.Database(os.environ["RLAAS_TEST_POSTGRES"])
    try:
        assert schema.migrate(made) == schema.migrate(made)
        with made.engine.connect() as connection:
            context = alembic.runtime.migration.MigrationContext.configure(connection)
            assert alembic.autogenerate.compare_metadata(context, tables.metadata) == []
    finally:
        made.close()
