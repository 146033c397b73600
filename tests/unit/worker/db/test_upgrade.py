"""What 0.1.0 wrote, on the schema of later releases, in both databases: nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from databases import execute, migrate_to, query
from sqlalchemy import inspect

from worker.db.engine import Database
from worker.db.schema import REVISION
from worker.db.training_runs import TrainingRuns
from worker.model.evaluation import Looks

_OF_0_1_0 = "0005"
_AT = "'2026-11-01 08:00:00.000000'"
_ROWS = (
    f"INSERT INTO model_versions VALUES ('first', '1', 0.5, 1.25, '{{}}', {_AT})",
    "INSERT INTO scans (id, file_name, size_bytes, mtime_ns, inode, state, worker, lease_until, "
    "attempt, crashes, received_at, screened_at, filed_as, sha256, refusal_code, encoding) VALUES "
    f"(1, 'm\\xfcller.jpeg', 9, 1, -1, 'filed', 'w', {_AT}, 1, 0, {_AT}, {_AT}, 'a', 'aa', NULL, "
    f"'0f'), (2, 'torn.jpeg', 9, 1, 2, 'filed', 'w', {_AT}, 2, 1, {_AT}, {_AT}, 'b', 'bb', "
    f"'truncated', NULL), (3, 'gone.jpeg', 9, 1, 3, 'withdrawn', 'w', {_AT}, 1, 0, {_AT}, NULL, "
    "NULL, NULL, NULL, NULL)",
    "INSERT INTO predictions (id, scan_id, model_version, preprocessing_version, origin, logit, "
    "probability, label, confidence, decision, threshold, predicted_at, prevalence) VALUES "
    f"(1, 1, 'first', '1', 'screening', 1.5, 0.75, 'PNEUMONIA', 0.75, 'REVIEW', 0.5, {_AT}, 0.1)",
    f"INSERT INTO labels VALUES (1, 1, 'NORMAL', 'ada', 'sure', {_AT})",
    f"INSERT INTO promotions VALUES (1, 'first', {_AT}, 'promote', NULL, 'ada', 'trial')",
    f"INSERT INTO workers VALUES ('w', 'ward', 'b', 7, 8, {_AT}, {_AT}, NULL, '{{\"model\": 1}}')",
)
# Of nights that looked at test films and of others, as `details` of each.
_NIGHTS: tuple[str | None, ...] = (
    *(None, "null", "{}", r'{"remarks": ["\"looked_at\": \"aa\""]}'),
    *('{"looked_at": "aa", "seed": 20}', '{"seed": 20, "looked_at": "bb"}'),
    # Half a surrogate pair, which Postgres keeps and cannot look into.
    r'{"remarks": ["m\udcfcller.jpeg"], "looked_at": "aa"}',
    '{"looked_at": "a_"}',
)


@pytest.fixture
def old(empty_database_url: str, open_database: Any) -> Database:
    """Return a database of 0.1.0, with rows in every table."""
    database: Database = open_database(empty_database_url)
    migrate_to(database, _OF_0_1_0)
    for statement in _ROWS:
        with database.writing() as connection:
            connection.exec_driver_sql(statement)
    for details in _NIGHTS:
        night = f"INSERT INTO training_runs (started_at, details) VALUES ({_AT}, :details)"
        statement = (
            night if database.is_sqlite else night.replace(":details", "CAST(:details AS json)")
        )
        execute(database, statement, details=details)
    return database


def everything(database: Database, tables: dict[str, list[str]]) -> dict[str, Any]:
    """Return all rows of these tables, of the columns that are named, as text."""
    return {
        table: query(
            database,
            f"SELECT {', '.join(f'CAST({name} AS TEXT) AS {name}' for name in columns)} "
            f"FROM {table} ORDER BY 1, 2",
        )
        for table, columns in tables.items()
    }


def test_no_row_of_0_1_0_is_changed(old: Database) -> None:
    """Every column of every table, and what `results` shows, is as it was before."""
    with old.reading() as connection:
        names = inspect(connection)
        tables = {
            table: [column["name"] for column in names.get_columns(table)]
            for table in (*names.get_table_names(), *names.get_view_names())
            if table != "alembic_version"
        }
    before = everything(old, tables)
    assert all(before.values())
    assert old.migrate().revision == _OF_0_1_0
    assert old.schema().revision == REVISION
    assert everything(old, tables) == before


def test_looks_at_test_films_are_as_many_as_before(old: Database) -> None:
    """The column finds those that 0.1.0 found in the text of the details; the next is one more."""
    counted = "SELECT count(*) AS n FROM training_runs WHERE CAST(details AS TEXT) LIKE :looked"
    before = {
        digest: query(old, counted, looked=f'%"looked_at": "{end}%')[0]["n"]
        for digest, end in (("aa", 'aa"'), ("bb", 'bb"'), ("any", ""))
    }
    assert before == {"aa": 2, "bb": 1, "any": 4}
    old.migrate()
    after = "SELECT test_digest, count(*) AS n FROM training_runs GROUP BY test_digest"
    assert {row["test_digest"]: row["n"] for row in query(old, after)} == {
        "aa": 2,
        "bb": 1,
        "a_": 1,
        None: len(_NIGHTS) - 4,
    }
    runs = TrainingRuns(old)
    assert runs.look(runs.open("ward:models", {}), "aa") == Looks(this_set=3, any_set=5)
