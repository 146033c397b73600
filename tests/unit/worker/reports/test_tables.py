"""What `lungwatch status` makes of what workers report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.db.status import Status, WorkerStatus
from worker.model.population import GUANGZHOU
from worker.reports.tables import write_status, write_status_as_json
from worker.types import read_report


def a_status(worker: WorkerStatus, *, offered: int = 0) -> Status:
    """Return how things stand with one worker, on a day on which nothing came."""
    return Status(
        workers=[worker],
        claimed=0,
        offered=offered,
        recorded=0,
        screened_today=0,
        refused_today={},
        decisions_today={},
        last_hour=0,
        last_screened_at=None,
    )


def told(capsys: pytest.CaptureFixture[str], *, offered: int = 0, **report: Any) -> str:
    """Return what a person is told, in words parted by one space."""
    worker = WorkerStatus(
        name="ward-1", alive=True, beat_seconds_ago=1.0, report=read_report(report)
    )
    write_status(a_status(worker, offered=offered))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("alive", "report", "well"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"trouble": "database: away"}, False),
        (True, {"model_refused": "damaged"}, False),
        (True, {"backfill": "/films"}, False),
        (True, {"a_later_field": [1, 2], "backlog": 3}, True),
    ],
)
def test_whether_all_is_well(
    capsys: pytest.CaptureFixture[str], *, alive: bool, report: dict[str, Any], well: bool
) -> None:
    """A monitor is told in one word, and finds the rest beside it."""
    worker = WorkerStatus(
        name="ward-1", alive=alive, beat_seconds_ago=1.0, report=read_report(report)
    )
    write_status_as_json(a_status(worker))
    found = json.loads(capsys.readouterr().out)
    assert found["well"] is well
    assert found["workers"][0]["report"] == report


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"events": True, "lists": True}, "watching events and listing "),
        ({"events": False, "lists": True}, "watching only listing "),
        ({"events": True, "lists": False}, "watching events and the listing of another worker "),
        ({"events": False, "lists": False}, "watching only the listing of another worker "),
        ({"unfenced": "Landlock: not supported"}, "screeners lack Landlock: not supported "),
    ],
)
def test_what_a_worker_reports(
    capsys: pytest.CaptureFixture[str], report: dict[str, Any], words: str
) -> None:
    """Where it has its films from, and what of its screeners' fence is missing."""
    assert words in told(capsys, **report)


@pytest.mark.parametrize("kind", [{"model": "m-1"}, {"model": "m-1", "backfill": "/films"}])
def test_on_whom_the_model_has_been_tested(
    capsys: pytest.CaptureFixture[str], kind: dict[str, Any]
) -> None:
    """A person reads a sentence, and a program the facts."""
    population = GUANGZHOU.model_dump(mode="json")
    assert GUANGZHOU.sentence in told(capsys, **kind, population=population)
    worker = WorkerStatus(
        name="ward-1",
        alive=True,
        beat_seconds_ago=1.0,
        report=read_report(kind | {"population": population}),
    )
    write_status_as_json(a_status(worker))
    found = json.loads(capsys.readouterr().out)
    assert found["workers"][0]["report"]["population"] == population


def test_what_is_not_so_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on offer, a whole fence: no word of either."""
    quiet = told(capsys, unfenced="")
    assert "offer" not in quiet
    assert "lack" not in quiet
    assert "tested" not in quiet
    assert "on offer 7, to any worker with room" in told(capsys, offered=7)
