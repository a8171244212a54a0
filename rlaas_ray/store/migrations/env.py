"""Run by Alembic: applies the revisions on the connection that `store/schema.py` hands over. Never opens a database itself."""

from __future__ import annotations

from alembic import context

from rlaas_ray.store import tables

# SQLite cannot alter columns: batch mode copies the table instead.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
