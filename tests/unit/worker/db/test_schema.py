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
from databases import Postgres, make_newer, query
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
    """The migrations have one end, which the code knows, and are numbered from 0001 up to it."""
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [REVISION]
    numbered = [f"{number:04}" for number in range(1, int(REVISION) + 1)]
    assert sorted(one.revision for one in scripts.walk_revisions()) == numbered


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
        return database.migrate().is_older

    with ThreadPoolExecutor(len(databases)) as threads:
        made = list(threads.map(start, databases))
    assert sorted(made) == [False] * 7 + [True]
    assert databases[0].schema().revision == REVISION
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
        assert database.migrate().is_older
        with pytest.raises(DatabaseTrouble), database.reading() as connection:
            connection.execute(slow)
    finally:
        database.close()


def test_a_folder_for_the_database_is_made(open_database: Open, tmp_path: Any) -> None:
    """SQLite's file may be in a folder that is not there yet; looking alone makes neither."""
    database = open_database(f"sqlite:///{tmp_path}/new/deep/lungwatch.db")
    assert not database.exists()
    assert list(tmp_path.iterdir()) == []
    assert database.migrate().is_older
    assert database.exists()


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the release that this code passes for."""
    monkeypatch.setattr("worker.db.engine.version", lambda _: "0.2.10")
    return "0.2.10"


@pytest.mark.parametrize("oldest", ["0.2.0", "0.2.9", "0.2.10"])
def test_a_newer_schema_that_allows_this_release(
    database: Database, release: str, oldest: str
) -> None:
    """It is worked on, left as it is, and one sentence says so."""
    make_newer(database, oldest_release=oldest)
    schema = database.migrate()
    assert schema == database.schema()
    assert schema.is_newer
    assert "9999" in schema.note
    assert f"Lungwatch {release}" in schema.note
    assert query(database, "SELECT version_num FROM alembic_version") == [{"version_num": "9999"}]
    database.try_writing()


@pytest.mark.parametrize("oldest", ["0.3.0", "0.2.11", "1.0.0"])
def test_a_newer_schema_that_needs_a_newer_release(
    database: Database, release: str, oldest: str
) -> None:
    """It is left alone; the trouble names both releases and says what can be done."""
    make_newer(database, oldest_release=oldest)
    for use in (database.schema, database.migrate):
        with pytest.raises(DatabaseTrouble) as caught:
            use()
        for part in ("9999", f"{oldest} or newer", f"this is {release}", "restore the backup"):
            assert part in str(caught.value)
    assert query(database, "SELECT version_num FROM alembic_version") == [{"version_num": "9999"}]


@pytest.mark.parametrize("oldest", [None, "", "soon", "0.2"])
def test_a_newer_schema_that_names_no_release(
    database: Database, release: str, oldest: str | None
) -> None:
    """What it does not say, it does not allow."""
    make_newer(database, oldest_release=oldest)
    with pytest.raises(DatabaseTrouble, match=f"9999.*{release} does not know"):
        database.migrate()


def test_a_schema_that_is_no_newer_says_nothing(database: Database) -> None:
    """Where all is as usual there is no sentence."""
    assert database.migrate().note == ""
    assert database.schema().note == ""


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
