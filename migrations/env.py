"""Entry point of Alembic.

`Database.migrate` passes a connection. On the command line (`alembic history`, `alembic check`) the
settings name the database.
"""

from __future__ import annotations

from alembic import context

from worker.db.schema import metadata


def run() -> None:
    """Run the migrations on the connection passed, or on the configured database."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    from worker.db.engine import Database  # noqa: PLC0415 - only on the command line
    from worker.settings import read_settings  # noqa: PLC0415

    database = Database(read_settings().database_url.get_secret_value())
    with database.writing() as own:
        context.configure(connection=own, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()


run()
