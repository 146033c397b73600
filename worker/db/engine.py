"""The way to the database: engine, transactions, and the schema brought up to date under a lock.

SQLite and Postgres are the two that are supported; what differs between them is here.
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

# From this library version on SQLite's WAL is free of a bug that could corrupt the database.
_WAL_IS_SOUND = (3, 51, 3)
_ANSWER_SECONDS = 20.0  # if nobody says otherwise
_AT_LENGTH_SECONDS = 600.0
# An arbitrary number that names Lungwatch's migrations among Postgres's advisory locks.
_MIGRATION_LOCK = 7_201_623_994
_OLDER = {f"{number:04}" for number in range(1, int(REVISION))}


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The schema of a database that this release may work on."""

    revision: str | None  # the newest migration made on it; None where there are no tables yet

    @property
    def is_older(self) -> bool:
        """Whether this release has migrations for it."""
        return self.revision is None or self.revision in _OLDER

    @property
    def is_newer(self) -> bool:
        """Whether a newer release made it."""
        return not self.is_older and self.revision != REVISION

    @property
    def note(self) -> str:
        """One sentence for people where a newer release made it, else nothing."""
        if not self.is_newer:
            return ""
        return (
            f"The database has schema {self.revision} of a newer release. "
            f"Lungwatch {version('lungwatch')}, which knows {REVISION}, may work on it."
        )


class Database:
    """An engine, and transactions on it whose troubles are `DatabaseTrouble`."""

    def __init__(self, url: str, *, answer_seconds: float | None = None) -> None:
        """Make an engine for `url`. Nothing is opened yet.

        Args:
            url: where the database is.
            answer_seconds: a database that has not answered for so long is away.

        Raises:
            SettingsError: the URL is neither SQLite nor Postgres.
        """
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        make_engine = _sqlite_engine if self.is_sqlite else _postgres_engine
        self.engine = make_engine(self.url, answer_seconds or _ANSWER_SECONDS)

    def __str__(self) -> str:
        """The URL, without its password."""
        return _without_password(self.url)

    def exists(self) -> bool:
        """Whether there may be a database: in SQLite, whether the file is there.

        Raises:
            DatabaseTrouble: its folder may not be looked into.
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
        """One transaction that may write, committed at the end.

        Raises:
            DatabaseTrouble: whatever the database, or the way to it, complains of.
        """
        with self._wrapped(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self, *, at_length: bool = False) -> Iterator[Connection]:
        """One transaction that only reads, so that in SQLite it never waits for a writer's turn.

        Args:
            at_length: much of a table that may be long is asked for: its answer has ten minutes.

        Raises:
            DatabaseTrouble: as `writing`.
        """
        with self._wrapped(), self.engine.connect() as connection:
            reader = connection.execution_options(only_reads=True)
            with _unhurried(reader, _AT_LENGTH_SECONDS) if at_length else nullcontext():
                yield reader

    def try_writing(self) -> None:
        """Do as a worker that claims a film, and change nothing.

        Raises:
            DatabaseTrouble: it may only be read, or as `writing`.
        """
        with self.writing() as connection:
            connection.execute(text("UPDATE scans SET attempt = attempt WHERE id < 0"))

    def schema(self) -> Schema:
        """Look at the schema, and make sure that this release may work on it.

        Raises:
            DatabaseTrouble: a newer release made it, and it does not allow this one; or as
                `reading`.
        """
        with self.reading() as connection:
            return _schema(connection)

    def migrate(self) -> Schema:
        """Bring the schema up to date, under a lock, so that one of many starters does it.

        A schema that a newer release made, and that allows this one, is left as it is.

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
        from alembic import command  # noqa: PLC0415 - needed only when there is work
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(shipped("migrations")).replace("%", "%%"))
        # In SQLite the transaction itself is the lock: it begins IMMEDIATE.
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            before = _schema(connection)
            if before.is_older:  # else another starter was first
                config.attributes["connection"] = connection
                with _unhurried(connection, inf):  # a large table is not altered in seconds
                    command.upgrade(config, "head")
        return before

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OverflowError, UnicodeError) as error:
            if self.is_sqlite:
                # A connection made while the file was read-only, or before it was replaced, never
                # finds out that it no longer is. A new one does.
                self.engine.dispose()
            cause = getattr(error, "orig", None) or error
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise DatabaseTrouble(lines[0]) from error


@contextmanager
def _unhurried(connection: Connection, seconds: float) -> Iterator[None]:
    """Let each statement take so long."""
    if connection.dialect.name == "sqlite":
        yield
        return
    limit = 0 if seconds == inf else int(seconds * 1000)
    connection.execute(text(f"SET LOCAL statement_timeout = {limit}"))
    client: Any = connection.connection.driver_connection
    # The server's own limit comes first, and says why.
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
            "and it does not say which release it needs: install the release that made it, or "
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
    """Return the numbers of a release such as "0.2.0"; None where it has not the three."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", release or "")
    return tuple(map(int, match.groups())) if match else None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseTrouble(f"cannot make {folder}: {error.strerror}") from error


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
    """Return a URL to be shown: its password may also stand in its query."""
    hidden = {name: "***" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _sqlite_engine(url: URL, answer_seconds: float) -> Engine:
    engine = create_engine(url, connect_args={"timeout": answer_seconds / 2})
    journal = "WAL" if sqlite3.sqlite_version_info >= _WAL_IS_SOUND else "TRUNCATE"

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say, below
        for pragma in (f"journal_mode={journal}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its turn at once: one that began by reading could find itself shut out.
        reads = connection.get_execution_options().get("only_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: URL, answer_seconds: float) -> Engine:
    # The server's own limits come first: it ends a statement, and can say why.
    limits = {
        "statement_timeout": 0.75,
        "lock_timeout": 0.5,
        "idle_in_transaction_session_timeout": 1.0,  # locks of a client that froze are freed
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
            "client_encoding": "utf8",  # whatever the database's own is
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: Any, _record: Any, _args: Any, options: dict[str, Any]) -> Any:
        from worker.db.postgres import Impatient  # noqa: PLC0415 - SQLite needs no Postgres client

        connection = Impatient.connect(**options)
        connection.refuse_other_letters()
        connection.answer_seconds = answer_seconds
        return connection

    return engine
