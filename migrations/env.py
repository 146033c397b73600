"""Alembic's way in.

`Database.migrate` hands it a connection; on the command line (`alembic history`, `alembic check`)
it asks the settings for one.
"""

from __future__ import annotations

from alembic import context

from worker.db.schema import metadata


def run() -> None:
    """Run the migrations on the connection handed over, or on the configured database."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    from worker.db.engine import Database  # noqa: PLC0415 - an entry point of its own
    from worker.settings import read_settings  # noqa: PLC0415

    database = Database(read_settings().database_url.get_secret_value())
    with database.writing() as own:
        context.configure(connection=own, target_metadata=metadata, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()


run()
