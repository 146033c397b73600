"""The way to the database, where what lies at its end is not as it should be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from databases import Postgres, query
from pydantic import SecretStr
from sqlalchemy import text

from worker.cli import common
from worker.db.engine import Database
from worker.errors import DatabaseTrouble, SettingsError
from worker.settings import Settings

Open = Callable[[str], Database]
NAME = "Фильм.jpeg"


def test_a_file_put_in_the_place_of_another_is_gone_on_with(
    tmp_path: Path, open_database: Open
) -> None:
    """Whoever restores a copy beside a running worker has to start nothing anew."""
    path = tmp_path / "lungwatch.db"
    database = open_database(f"sqlite:///{path}")
    database.migrate()
    shutil.copyfile(path, tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(path)
    said = "CREATE TABLE restored (id INTEGER)"
    with suppress(DatabaseTrouble), database.writing() as connection:  # finds out
        connection.exec_driver_sql(said)
    with database.writing() as connection:
        connection.exec_driver_sql(said.replace("TABLE", "TABLE IF NOT EXISTS"))
    assert query(open_database(f"sqlite:///{path}"), "SELECT * FROM restored") == []


def _encoded(postgres: Postgres, encoding: str) -> str:
    name = f"test_{encoding.lower()}"
    postgres.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' "
        "LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    return postgres.url(name)


def test_a_postgres_without_an_encoding_holds_any_name(
    postgres: Postgres, open_database: Open
) -> None:
    """As a cluster has none that was made where no language was set."""
    database = open_database(_encoded(postgres, "SQL_ASCII"))
    database.migrate()
    assert query(database, "SELECT CAST(:name AS text) AS name", name=NAME) == [{"name": NAME}]


def test_a_postgres_that_cannot_hold_every_name_is_told(
    postgres: Postgres, open_database: Open
) -> None:
    """One film's name would stop all others: so it is said before the first."""
    database = open_database(_encoded(postgres, "LATIN1"))
    with pytest.raises(DatabaseTrouble, match=r"encoding is LATIN1.*ENCODING 'UTF8'"):
        database.migrate()


def test_no_password_is_shown() -> None:
    """Wherever in the URL it stands."""
    for url in (
        "postgresql://ward:geheim@host/films",
        "postgresql://host/films?user=ward&password=geheim",
        "postgresql://host/films?sslpassword=geheim",
    ):
        assert "geheim" not in str(Database(url))
        assert "films" in str(Database(url))
    with pytest.raises(SettingsError) as caught:
        Database("mysql+pymysql://host/films?password=geheim")
    assert "geheim" not in str(caught.value)


def test_a_long_table_may_be_read_at_length(postgres: Postgres) -> None:
    """What looks at much of it has more time than what a worker asks; commands take the setting."""
    url = postgres.url(postgres.create())
    slow = text("SELECT pg_sleep(0.5)")
    with closing(Database(url, answer_seconds=0.2)) as database:
        with database.reading(at_length=True) as asked:
            asked.execute(slow)
        with pytest.raises(DatabaseTrouble, match="statement timeout"), database.reading() as asked:
            asked.execute(slow)
    settings = Settings(database_url=SecretStr(url), database_seconds=40)
    with closing(common.database(settings)) as database, database.reading() as asked:
        assert asked.scalar(text("SHOW statement_timeout")) == "30s"
