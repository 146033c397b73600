"""Told to stop, at any moment and more than once; and told things that are no order to stop."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import films
import pytest
from driver import Site, wait_for
from swaps import children, report, wait_until_serving
from trials import Trial


def _finish(site: Site, trial: Trial, everything: dict[str, bytes]) -> None:
    with trial.recovery():
        site.call("run", "--once")
    trial.end(site, everything)


def test_stopped_when_idle(any_site: Site, trial: Trial, shipped: Path) -> None:
    """It ends well, and says in the table of workers that it did."""
    worker = any_site.start()
    wait_until_serving(any_site, shipped.name)
    assert any_site.stop(worker) == 0
    assert any_site.query("SELECT count(*) AS n FROM workers WHERE stopped_at IS NULL") == [
        {"n": 0}
    ]
    trial.end(any_site, {})


def test_stopped_in_mid_batch(any_site: Site, trial: Trial) -> None:
    """It records and files what is in hand, claims nothing more, and leaves the rest for later."""
    site, everything = any_site, dict[str, bytes]()
    for number in range(trial.count(2, 50)):
        new = films.small_batch(60, seed=number)
        everything |= new
        goal = site.finished() + 5
        site.drop(new)
        worker = site.start()
        site.wait_until_finished(goal)
        assert site.stop(worker) == 0
        left = site.query("SELECT count(*) AS n FROM scans WHERE state = 'recorded'")
        assert left == [{"n": 0}]
        assert not [row for row in _leases(site) if row["lease"] > 0], "nothing stays claimed"
        trial.rounds += 1
    site.call("run", "--once")
    trial.end(site, everything, rounds=0)


def _leases(site: Site) -> list[dict[str, float]]:
    """Return how long the claims that nobody finished still hold, in seconds."""
    now = (
        "(julianday(lease_until) - julianday('now')) * 86400"
        if site.database_url.startswith("sqlite")
        else "extract(epoch FROM lease_until - now())"
    )
    rows = site.query(f"SELECT {now} AS lease FROM scans WHERE state = 'claimed'")
    return [{"lease": float(row["lease"])} for row in rows]


def test_stopped_while_the_database_is_away(site: Site, trial: Trial) -> None:
    """It ends though it cannot record; the next start finishes what it had in hand."""
    site.settings |= {"SCREENERS": "1", "DATABASE_SECONDS": "1"}
    everything = films.small_batch(400)
    site.drop(everything)
    worker = site.start()
    site.wait_until_finished(3)
    other = sqlite3.connect(site.root / "lungwatch.db", isolation_level=None, timeout=60)
    other.execute("BEGIN EXCLUSIVE")
    wait_for(lambda: '"event": "trouble"' in site.log(), what="it says so")
    assert site.stop(worker) == 0
    other.execute("ROLLBACK")
    other.close()
    assert site.finished() < len(everything)
    _finish(site, trial, everything)


def test_stopped_while_a_model_loads(site: Site, trial: Trial) -> None:
    """Before anything is ready it ends well too, and leaves no screener behind."""
    everything = films.small_batch(4)
    site.drop(everything)
    site.call("check")
    worker = site.start()
    screeners = wait_for(lambda: children(worker.pid), every=0.005, what="screeners are started")
    assert site.finished() == 0
    assert site.stop(worker) == 0
    assert not [one for one in screeners if Path(f"/proc/{one}").exists()]
    _finish(site, trial, everything)


def test_told_twice(any_site: Site, trial: Trial) -> None:
    """The second time it waits for no film in hand; nothing is lost by it."""
    site = any_site
    everything = films.small_batch(60)
    site.drop(everything)
    worker = site.start()
    site.wait_until_finished(3)
    worker.send_signal(signal.SIGTERM)
    assert site.stop(worker) == 0
    _finish(site, trial, everything)


@pytest.mark.slow
def test_hung_up_twenty_times(any_site: Site, trial: Trial, shipped: Path) -> None:
    """Without a terminal SIGHUP means nothing: films flow on."""
    site = any_site
    worker = site.start()
    wait_until_serving(site, shipped.name)
    everything: dict[str, bytes] = {}
    for number in range(20):
        new = films.small_batch(3, seed=number)
        everything |= new
        site.drop(new)
        worker.send_signal(signal.SIGHUP)
    site.wait_until_finished(len(everything))
    assert worker.poll() is None
    assert report(site).get("model")
    trial.end(site, everything, rounds=20)
