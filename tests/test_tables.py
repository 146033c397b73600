"""What `lungwatch status` makes of what workers report."""

from __future__ import annotations

from typing import Any

import pytest

from worker.results import Status, WorkerStatus
from worker.tables import write_status


def told(capsys: pytest.CaptureFixture[str], *, offered: int = 0, **report: Any) -> str:
    """Return what a person is told, in words parted by one space."""
    worker = WorkerStatus(name="ward-1", alive=True, beat_seconds_ago=1.0, report=report)
    write_status(
        Status(
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
    )
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("report", "words"),
    [
        ({"events": True, "lists": True}, "watching events and listing "),
        ({"events": False, "lists": True}, "watching listing alone "),
        ({"events": True, "lists": False}, "watching events and what another worker lists "),
        ({"events": False, "lists": False}, "watching what another worker lists alone "),
        ({"unfenced": "Landlock: not supported"}, "screeners lack Landlock: not supported "),
    ],
)
def test_what_a_worker_reports(
    capsys: pytest.CaptureFixture[str], report: dict[str, Any], words: str
) -> None:
    """Where it has its films from, and what of its screeners' fence is missing."""
    assert words in told(capsys, **report)


def test_what_is_not_so_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on offer, a whole fence: no word of either."""
    quiet = told(capsys, unfenced="")
    assert "offer" not in quiet
    assert "lack" not in quiet
    assert "on offer 7, to whichever worker has room" in told(capsys, offered=7)
