"""Alembic's environment: migrates over the connection that `i2idist.catalog.schema` hands in."""

from __future__ import annotations

from alembic import context

from i2idist.catalog.models import Base

# The caller's transaction holds the lock and the migration together, so it succeeds whole or not at all.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
