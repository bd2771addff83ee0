"""Alembic's entry: migrates over the connection that ``pipeline.store.migrations`` hands in."""

from alembic import context
from sqlalchemy import Connection


def run(connection: Connection) -> None:
    """Bring the schema up in one transaction; the version table lives beside the tables it describes."""
    context.configure(
        connection=connection, version_table_schema="firstread", transaction_per_migration=False
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
