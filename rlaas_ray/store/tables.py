"""The tables, as SQLAlchemy Core; `migrations/` builds them and a test compares the two.

Used by the row modules beside this one and nobody else. Times are integer microseconds UTC, JSON is canonical text.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, Text, UniqueConstraint

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OPEN_ROLLOUT = ("shadow", "ramping", "holding")

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text),
    Column("spec_json", Text, nullable=False),
    Column("spec_digest", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("place", Text, nullable=False),
    Column("place_ref", Text),
    Column("owner_key", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("started_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("lease_until_us", BigInteger),
    Column("progress_json", Text, nullable=False),
    Column("error_json", Text),
    Column("result_json", Text),
    Column("checkpoint_uri", Text),
    Index(None, "state", "lease_until_us"),
    Index(None, "kind", "created_us"),
    Index(
        "uq_runs_place_ref",
        "place",
        "place_ref",
        unique=True,
        sqlite_where=sa.text("place_ref IS NOT NULL"),
        postgresql_where=sa.text("place_ref IS NOT NULL"),
    ),
)

# `seq` is given here, in the order of arrival; `source_seq` is what the run process counted (per attempt), so that an event
# sent twice is kept once, and the API's own events need no number of the process.
run_events = Table(
    "run_events",
    metadata,
    Column("run_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("source_seq", BigInteger),
    Column("time_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data_json", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "seq"),
    UniqueConstraint("run_id", "attempt", "source_seq"),
)

run_metrics = Table(
    "run_metrics",
    metadata,
    Column("run_id", Text, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("values_json", Text, nullable=False),
    PrimaryKeyConstraint("run_id", "step", "time_us"),
)

versions = Table(
    "versions",
    metadata,
    Column("name", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("run_id", Text),
    Column("evaluation_json", Text),
    Column("created_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
    PrimaryKeyConstraint("name", "number"),
    UniqueConstraint("name", "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    PrimaryKeyConstraint("name", "alias"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spec_json", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("pool", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("deleted_us", BigInteger),
)

# Insert-only. `epoch` is unique over the whole table: one number is cursor and acknowledgement of a pool.
route_tables = Table(
    "route_tables",
    metadata,
    Column("endpoint", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("pool", Text, nullable=False),
    Column("table_json", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("endpoint", "epoch"),
    UniqueConstraint("epoch"),
    Index(None, "pool", "epoch"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("spec_json", Text, nullable=False),
    Column("spec_digest", Text, nullable=False),
    Column("challenger", Text, nullable=False),
    Column("challenger_digest", Text, nullable=False),
    Column("champion", Text, nullable=False),
    Column("champion_digest", Text, nullable=False),
    Column("first_epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("stage_started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("verdict_json", Text),
    Index(
        "uq_rollouts_open",
        "endpoint",
        unique=True,
        sqlite_where=sa.text(f"state IN {OPEN_ROLLOUT}"),
        postgresql_where=sa.text(f"state IN {OPEN_ROLLOUT}"),
    ),
    Index(None, "endpoint", "started_us"),
)

rollout_evidence = Table(
    "rollout_evidence",
    metadata,
    Column("rollout_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("cut_json", Text, nullable=False),
    Column("status_json", Text, nullable=False),
    Column("statistics_json", Text, nullable=False),
    Column("verdict_json", Text, nullable=False),
    Column("digest", Text, nullable=False),
    PrimaryKeyConstraint("rollout_id", "seq"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("roles", Text, nullable=False),
    Column("subject", Text),
    Column("note", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    Column("last_used_us", BigInteger),
    UniqueConstraint("prefix"),
    Index(None, "subject"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("idem_key", Text, nullable=False),
    Column("request_digest", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("location", Text),
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("key_id", "method", "path", "idem_key"),
    Index(None, "created_us"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    Column("signature", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("action", Text, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("next_us", BigInteger, nullable=False),
    Column("error", Text),
    Index(None, "state", "next_us"),
)
