"""What alembic runs: migrates the connection that it is given."""

from alembic import context

from buildmaster.tables import metadata

# batch: SQLite cannot alter a table in place.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
