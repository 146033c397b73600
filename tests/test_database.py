"""The way to the database, where what lies at its end is not as it should be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from databases import Postgres, query

from worker.database import Database
from worker.errors import DatabaseTrouble, SettingsError

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
