"""What a worker reports of itself is read from the rows of any release."""

from __future__ import annotations

from typing import Any

import pytest
from scans import worker

from worker.db.engine import Database
from worker.db.schema import workers
from worker.db.status import read_status
from worker.types import BackfillReport, Report, WorkerReport, read_report

# As release 0.1.0 wrote them.
_WORKER = {
    "model": "2026-11-20",
    "model_refused": None,
    "backlog": 3,
    "in_hand": 2,
    "oldest_seconds": 1.5,
    "unreadable": 0,
    "stuck": 0,
    "passed_over": {"folder": 1},
    "films_per_second": 12.25,
    "screeners": 2,
    "screeners_ended": 0,
    "unfenced": "",
    "events": True,
    "lists": True,
    "trouble": None,
    "last_trouble": "database: away",
}
_BACKFILL = {"backfill": "/films", "model": "2026-11-20", "done": 7, "in_hand": 2, "screeners": 2}


@pytest.mark.parametrize(("facts", "kind"), [(_WORKER, WorkerReport), (_BACKFILL, BackfillReport)])
def test_the_names_of_release_0_1_0(facts: dict[str, Any], kind: type[Report]) -> None:
    """They are read into fields of the same names, and written so again, with none added."""
    report = read_report(facts)
    assert isinstance(report, kind)
    assert facts.keys() <= kind.model_fields.keys()
    assert report.model_dump(mode="json", exclude_unset=True) == facts


def test_a_row_with_fields_missing_unknown_or_of_another_kind(database: Database) -> None:
    """The rest of it is read, the unknown is kept, and the row itself stays as it was."""
    worker(database, "ward-1").beat(WorkerReport(), lease_seconds=60)
    row = {"trouble": "database: away", "backlog": "many", "a_later_field": {"depth": 1}}
    with database.writing() as connection:
        connection.execute(workers.update().values(report=row))
    (one,) = read_status(database).workers
    assert isinstance(one.report, WorkerReport)
    assert (one.report.trouble, one.report.backlog, one.report.lists) == ("database: away", 0, True)
    assert one.report.model_dump(exclude_unset=True) == {
        "trouble": "database: away",
        "a_later_field": {"depth": 1},
    }
