"""The wall clock jumps by a day, forwards and back, while films flow and while nobody runs."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import films
import pytest
from clock import Clock
from driver import Site
from tracing import calls_in, strace
from trials import Trial

_DAY = 86_400


def _days_off(site: Site) -> float:
    """Return by how many days the latest row is off."""
    (row,) = site.query("SELECT screened_at FROM scans ORDER BY id DESC LIMIT 1")
    there = datetime.fromisoformat(str(row["screened_at"]))
    there = there if there.tzinfo else there.replace(tzinfo=UTC)
    return (there - datetime.now(UTC)) / timedelta(days=1)


def test_jumps_while_films_flow(any_site: Site, trial: Trial) -> None:
    """Forwards, back, and back beyond: films go on being answered, each once."""
    site, clock = any_site, Clock(any_site)
    site.settings |= {"SCREENERS": "1"}
    worker = site.start()
    everything: dict[str, bytes] = {}
    for number in range(trial.count(3, 60)):
        days = (1, 0, -1)[number % 3]
        new = films.small_batch(16, seed=number)
        everything |= new
        site.drop(new)
        clock.jump(days * _DAY)
        with trial.recovery():
            later = films.small_batch(2, seed=10_000 + number)
            everything |= later
            site.drop(later)
            site.wait_until_finished(len(everything))
        if site.database_url.startswith("sqlite"):  # Postgres has its own clock
            assert round(_days_off(site)) == days
        trial.rounds += 1
    assert worker.poll() is None
    trial.end(site, everything, rounds=0)


@pytest.mark.parametrize("days", [1, pytest.param(-1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["claimed", pytest.param("recorded", marks=pytest.mark.slow)])
def test_a_jump_between_a_kill_and_the_start(
    site: Site, trial: Trial, days: int, when: str
) -> None:
    """What a killed worker had claimed or recorded is finished, whatever day the next one has."""
    clock = Clock(site)
    site.settings |= {"SCREENERS": "1", "LEASE_SECONDS": "3600"}
    site.call("run", "--once")
    everything = films.small_batch(12)
    site.drop(everything)
    if when == "recorded":
        log = Path(site.root / "calls")
        killed = strace(log, calls=("renameat2",), inject="signal=SIGKILL:when=1")
        assert site.start("--once", wrapper=killed).wait() == -signal.SIGKILL
        assert calls_in(log)
    else:
        worker = site.start()
        site.wait_until_finished(1)
        site.stop(worker, signal.SIGKILL)
    left = f"SELECT count(*) AS n FROM scans WHERE state = '{when}'"
    if when == "recorded":
        assert site.query(left)[0]["n"], "there must be something left to finish"
    clock.jump(days * _DAY)
    site.start()
    with trial.recovery():
        site.wait_until_finished(len(everything))
    trial.end(site, everything)


def test_a_jump_back_between_a_stop_and_the_start(site: Site, trial: Trial) -> None:
    """What a worker put back when it was told to stop is free for the next one on any day."""
    clock = Clock(site)
    site.settings |= {"SCREENERS": "1"}
    site.call("run", "--once")
    everything = films.small_batch(1000)
    worker = site.start()
    site.drop(everything)
    site.wait_until_finished(1)
    site.stop(worker, signal.SIGTERM)
    left = "SELECT count(*) AS n FROM scans WHERE state = 'claimed'"
    assert site.query(left)[0]["n"], "there must be something that was put back"
    clock.jump(-_DAY)
    site.start()
    with trial.recovery():
        site.wait_until_finished(len(everything))
    trial.end(site, everything)
