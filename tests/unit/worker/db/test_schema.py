"""The schema: what the migrations make, and that many starters make it once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from checkout import REPOSITORY
from databases import Postgres, execute, query
from sqlalchemy import inspect, text

from worker.db.engine import Database
from worker.db.schema import REVISION, metadata, results
from worker.errors import DatabaseTrouble, SettingsError

Open = Callable[[str], Database]

# What sites build on: design.md names these columns, in this order.
PROMISED = (
    *("scan_id", "file_name", "sha256", "decision", "label", "probability", "confidence"),
    *("review_reason", "refusal_code", "model_version", "threshold", "received_at"),
    *("screened_at", "reader_label"),
)


@pytest.fixture
def config() -> Config:
    """Return Alembic's configuration, as the command line has it."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    return config


def test_migrations_and_tables_agree(database: Database) -> None:
    """What the migrations build is what `schema.py` says, types and defaults included."""
    with database.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_migrations_and_tables_agree_on_conditions(database: Database, config: Config) -> None:
    """Partial indexes have the same condition in both: an upsert finds them by it."""
    migrated = indexes(database)
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        metadata.create_all(connection)
    assert indexes(database) == migrated
    assert sum("WHERE" in one for one in migrated) >= 3


def indexes(database: Database) -> set[str]:
    """Return the definitions of the indexes that we made."""
    statement = (
        "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if database.is_sqlite
        else "SELECT indexdef AS sql FROM pg_indexes "
        "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    )
    return {" ".join(row["sql"].split()) for row in query(database, statement)}


def test_revision_is_the_newest_migration(config: Config) -> None:
    """The revision that the code looks for is where the migrations end, and they have one end."""
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_results_has_the_promised_columns(database: Database) -> None:
    """`results` begins with the columns that sites build on, in their order, and may only grow."""
    with database.reading() as connection:
        columns = [column["name"] for column in inspect(connection).get_columns("results")]
    assert tuple(columns[: len(PROMISED)]) == PROMISED
    assert columns == [column.name for column in results.columns]


def test_down_and_up_again(database: Database, config: Config) -> None:
    """Every migration can be taken back, leaves nothing behind, and can be made again."""
    for step, target in ((command.downgrade, "base"), (command.upgrade, "head")):
        with database.writing() as connection:
            config.attributes["connection"] = connection
            step(config, target)
        with database.reading() as connection:
            names = set(inspect(connection).get_table_names()) - {"alembic_version"}
            views = inspect(connection).get_view_names()
        expected: set[str] = set(metadata.tables) if target == "head" else set()
        assert (names, bool(views)) == (expected, bool(expected))


def test_eight_start_on_an_empty_database(empty_database_url: str, open_database: Open) -> None:
    """Eight workers that start at once all get their tables, and one of them says it made them."""
    databases = [open_database(empty_database_url) for _ in range(8)]
    gate = threading.Barrier(len(databases))

    def start(database: Database) -> bool:
        gate.wait()
        return database.migrate()

    with ThreadPoolExecutor(len(databases)) as threads:
        made = list(threads.map(start, databases))
    assert sorted(made) == [False] * 7 + [True]
    assert databases[0].revision() == REVISION
    assert query(databases[0], "SELECT * FROM results") == []


def test_a_long_migration_is_not_given_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large table takes longer to alter than the worker would wait for an answer otherwise."""
    database = Database(postgres.url(postgres.create()), answer_seconds=1.0)
    upgrade, slow = command.upgrade, text("SELECT pg_sleep(1.5)")

    def take_long(config: Any, revision: str) -> None:
        config.attributes["connection"].execute(slow)
        upgrade(config, revision)

    monkeypatch.setattr(command, "upgrade", take_long)
    try:
        assert database.migrate()
        with pytest.raises(DatabaseTrouble), database.reading() as connection:
            connection.execute(slow)
    finally:
        database.close()


def test_a_folder_for_the_database_is_made(open_database: Open, tmp_path: Any) -> None:
    """SQLite's file may be in a folder that is not there yet; looking alone makes neither."""
    database = open_database(f"sqlite:///{tmp_path}/new/deep/lungwatch.db")
    assert not database.exists()
    assert list(tmp_path.iterdir()) == []
    assert database.migrate()
    assert database.exists()


@pytest.mark.parametrize("revision", ["9999", "nonsense"])
def test_a_newer_schema_is_left_alone(database: Database, revision: str) -> None:
    """A database that a newer version made is not touched, and the trouble says what is wrong."""
    execute(database, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    with pytest.raises(
        DatabaseTrouble, match=f"schema that this version does not know.*{revision}"
    ):
        database.migrate()
    assert database.revision() == revision
    assert query(database, "SELECT * FROM scans") == []


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://root@host/films", "sqlite://", "sqlite:///:memory:", "redis://x"],
)
def test_other_databases_are_refused(url: str) -> None:
    """A URL that is neither SQLite's nor Postgres's is a wrong setting, said with what would do."""
    with pytest.raises(SettingsError, match=r"LUNGWATCH_DATABASE_URL.*use sqlite:///FILE"):
        Database(url)


def test_a_password_is_never_shown() -> None:
    """A database names itself without its password."""
    shown = str(Database("postgresql://reader:s3cret@host/films"))
    assert "s3cret" not in shown
    assert "reader" in shown
