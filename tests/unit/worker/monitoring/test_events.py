"""What becomes of each event that a worker reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scans import sighting

from worker.errors import FilmRefused, RefusalCode
from worker.monitoring.events import (
    Backlog,
    Event,
    Notice,
    ScanEnded,
    Standing,
    Started,
    Stopping,
    TroubleBegan,
    TroubleEnded,
)
from worker.monitoring.reporter import open_reporter
from worker.system.trouble import Trouble
from worker.types import Claim, Facts, Outcome, WorkerReport

AWAY = Trouble(kind="database", message="away", since=5.0, count=3)
REFUSED = Outcome(
    claim=Claim(scan_id=7, sighting=sighting(), attempt=2, crashes=0),
    facts=Facts(sha256="ab" * 32),
    refusal=FilmRefused(RefusalCode.EMPTY, "The file is empty."),
)
EVENTS: tuple[Event, ...] = (
    Started(facts={"model": "steady", "watching": "/in"}),
    ScanEnded(outcome=REFUSED),
    TroubleBegan(trouble=AWAY),
    TroubleEnded(trouble=AWAY, seconds=2.04),
    Notice(name="model swapped", fields={"model": "newer", "before": "steady"}),
    Standing(report=WorkerReport(backlog=4)),
    Backlog(done=3, waiting=4),
    Stopping(),
)


def test_a_log_has_a_line_for_each_event_but_for_how_things_stand(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Event names and fields are what dashboards and filters look for."""
    reporter = open_reporter("json", "INFO", places={})
    for event in EVENTS:
        reporter.emit(event)
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for line in lines:
        del line["timestamp"]
    info, warning = {"level": "info"}, {"level": "warning"}
    assert lines == [
        info | {"event": "started", "model": "steady"},
        info
        | {"event": "refused", "scan_id": 7, "sha256": "ab" * 6, "attempt": 2}
        | {"refusal_code": "empty"},
        warning | {"event": "trouble", "kind": "database", "message": "away"},
        info | {"event": "trouble over", "kind": "database", "tries": 3, "seconds": 2.0},
        info | {"event": "model swapped", "model": "newer", "before": "steady"},
    ]


def test_metrics_stand_beside_what_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both have every event, and the file of metrics goes away when the worker stops."""
    path = tmp_path / "lungwatch.prom"
    reporter = open_reporter("plain", "INFO", places={}, metrics_file=path)
    for event in EVENTS[:-1]:
        reporter.emit(event)
    metrics = path.read_text(encoding="utf-8")
    assert 'lungwatch_refused_total{code="empty"} 1.0' in metrics
    assert "lungwatch_backlog_films 4.0" in metrics
    assert "REFUSED    scan 7" in capfd.readouterr().out
    reporter.emit(Stopping())
    assert not path.exists()
