"""The database connection: engine, transactions, and migrations under a lock.

What differs between SQLite and Postgres is handled here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from worker.db.schema import REVISION, schema_compatibility
from worker.errors import DatabaseTrouble, SettingsError
from worker.system.files import shipped

# Older versions have a bug in WAL that can corrupt the database.
_WAL_IS_SOUND = (3, 51, 3)
_ANSWER_SECONDS = 20.0  # default
_AT_LENGTH_SECONDS = 600.0
# An arbitrary number that identifies Lungwatch's migrations among Postgres advisory locks.
_MIGRATION_LOCK = 7_201_623_994
_OLDER = {f"{number:04}" for number in range(1, int(REVISION))}


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The schema of a database that this release can use."""

    revision: str | None  # the last migration applied; None if there are no tables yet

    @property
    def is_older(self) -> bool:
        """Whether this release has migrations to apply."""
        return self.revision is None or self.revision in _OLDER

    @property
    def is_newer(self) -> bool:
        """Whether a newer release made it."""
        return not self.is_older and self.revision != REVISION

    @property
    def note(self) -> str:
        """A sentence for people if a newer release made it, else an empty string."""
        if not self.is_newer:
            return ""
        return (
            f"The database has schema {self.revision} of a newer release. "
            f"Lungwatch {version('lungwatch')}, which has schema {REVISION}, can use it."
        )


class Database:
    """An engine, with transactions that raise `DatabaseTrouble`."""

    def __init__(self, url: str, *, answer_seconds: float | None = None) -> None:
        """Make an engine for `url` without connecting.

        Args:
            url: of the database.
            answer_seconds: a database that has not answered for this long counts as away.

        Raises:
            SettingsError: the URL is neither SQLite nor Postgres.
        """
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        make_engine = _sqlite_engine if self.is_sqlite else _postgres_engine
        self.engine = make_engine(self.url, answer_seconds or _ANSWER_SECONDS)

    def __str__(self) -> str:
        """Return the URL without its password."""
        return _without_password(self.url)

    def exists(self) -> bool:
        """Whether the database exists: for SQLite, whether its file does.

        Raises:
            DatabaseTrouble: its folder cannot be read.
        """
        path = Path(self.url.database or "")
        try:
            return not self.is_sqlite or path.exists()
        except OSError as error:
            raise DatabaseTrouble(f"cannot look for {path}: {error.strerror}") from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that may write; it is committed at the end.

        Raises:
            DatabaseTrouble: on any error of the database or its connection.
        """
        with self._wrapped(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self, *, at_length: bool = False) -> Iterator[Connection]:
        """Open a read-only transaction. In SQLite it never waits for a writer.

        Args:
            at_length: the query reads much of a large table and may take ten minutes.

        Raises:
            DatabaseTrouble: as `writing`.
        """
        with self._wrapped(), self.engine.connect() as connection:
            reader = connection.execution_options(only_reads=True)
            with _unhurried(reader, _AT_LENGTH_SECONDS) if at_length else nullcontext():
                yield reader

    def try_writing(self) -> None:
        """Check that rows can be written, without changing any.

        Raises:
            DatabaseTrouble: the database is read-only, or as `writing`.
        """
        with self.writing() as connection:
            connection.execute(text("UPDATE scans SET attempt = attempt WHERE id < 0"))

    def schema(self) -> Schema:
        """Return the schema after checking that this release can use it.

        Raises:
            DatabaseTrouble: a newer release made it and it needs a newer release than this; or as
                `reading`.
        """
        with self.reading() as connection:
            return _schema(connection)

    def migrate(self) -> Schema:
        """Migrate the schema under a lock, so that one of several starting workers does it.

        A newer schema that this release can use is left as it is.

        Returns:
            The schema as it was before.

        Raises:
            DatabaseTrouble: the database is away, or as `schema`.
        """
        if self.is_sqlite and self.url.database:
            _make_folder(Path(self.url.database).parent)
        before = self.schema()
        if not before.is_older:
            return before
        from alembic import command  # noqa: PLC0415 - needed only to migrate
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(shipped("migrations")).replace("%", "%%"))
        # In SQLite the transaction is the lock: it begins with IMMEDIATE.
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            before = _schema(connection)
            if before.is_older:  # else another worker was first
                config.attributes["connection"] = connection
                with _unhurried(connection, inf):  # altering a large table takes long
                    command.upgrade(config, "head")
        return before

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeError) as error:
            if self.is_sqlite:
                # A connection opened while the file was read-only, or before it was replaced,
                # does not notice the change. A new one does.
                self.engine.dispose()
            cause = getattr(error, "orig", None) or error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise DatabaseTrouble(lines[0]) from error


@contextmanager
def _unhurried(connection: Connection, seconds: float) -> Iterator[None]:
    """Allow each statement this many seconds."""
    if connection.dialect.name == "sqlite":
        yield
        return
    limit = 0 if seconds == inf else int(seconds * 1000)
    connection.execute(text(f"SET LOCAL statement_timeout = {limit}"))
    client: Any = connection.connection.driver_connection
    # The server's limit comes first, because its error gives the reason.
    usual, client.answer_seconds = client.answer_seconds, seconds + client.answer_seconds
    try:
        yield
    finally:
        client.answer_seconds = usual


def _schema(connection: Connection) -> Schema:
    tables = inspect(connection)
    if not tables.has_table("alembic_version"):
        return Schema(revision=None)
    schema = Schema(revision=connection.scalar(text("SELECT version_num FROM alembic_version")))
    if not schema.is_newer:
        return schema
    oldest = None
    if tables.has_table(schema_compatibility.name):
        oldest = connection.scalar(select(schema_compatibility.c.oldest_release))
    release = version("lungwatch")
    needed, present = _numbers(oldest), _numbers(release)
    if needed is None or present is None:
        raise DatabaseTrouble(
            f"the database has schema {schema.revision}, which Lungwatch {release} does not know, "
            "and no oldest release is recorded: install the release that made it, or "
            "restore the backup from before the upgrade"
        )
    if needed > present:
        raise DatabaseTrouble(
            f"the database has schema {schema.revision}, which needs Lungwatch {oldest} or newer, "
            f"and this is {release}: install {oldest} or newer, or restore the backup from "
            "before the upgrade"
        )
    return schema


def _numbers(release: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a release such as "0.2.0", or None if it has not three."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", release or "")
    return tuple(map(int, match.groups())) if match else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseTrouble(f"cannot create {folder}: {error.strerror}") from error


def _parse(url: str) -> URL:
    wanted = "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise SettingsError(
            f"LUNGWATCH_DATABASE_URL is not a database URL: use {wanted}."
        ) from error
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = _without_password(parsed)
        raise SettingsError(f"LUNGWATCH_DATABASE_URL is {shown!r}: use {wanted}.")
    return parsed


def _without_password(url: URL) -> str:
    """Return a URL fit to be shown. The query part may hold a password too."""
    hidden = {name: "***" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _sqlite_engine(url: URL, answer_seconds: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": answer_seconds / 2})
    journal = "WAL" if sqlite3.sqlite_version_info >= _WAL_IS_SOUND else "TRUNCATE"

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # `_begin` issues BEGIN
        for pragma in (f"journal_mode={journal}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer locks at once. One that begins by reading could fail to get the lock later.
        reads = connection.get_execution_options().get("only_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: URL, answer_seconds: float) -> Engine:
    # The server's limits are shorter, because its errors give the reason.
    limits = {
        "statement_timeout": 0.75,
        "lock_timeout": 0.5,
        "idle_in_transaction_session_timeout": 1.0,  # frees the locks of a frozen client
    }
    options = [f"-c {name}={share * answer_seconds * 1000:.0f}" for name, share in limits.items()]
    engine = create_engine(
        url,
        pool_size=2,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(2, int(answer_seconds / 4)),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(answer_seconds * 1000),
            "options": " ".join([*options, "-c timezone=UTC"]),
            "client_encoding": "utf8",  # whatever the database's encoding
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> Any:
        from worker.db.postgres import DeadlineConnection  # noqa: PLC0415 - not for SQLite

        connection = DeadlineConnection.connect(**options)
        connection.check_encoding()
        connection.answer_seconds = answer_seconds
        return connection

    return engine
