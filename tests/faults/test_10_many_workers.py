"""Several workers on one inbox: they share it; what a frozen or dead one had is taken over."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing

import films
import pytest
from driver import Site, wait_for
from servers import freeze, thaw
from trials import Trial


def _start(site: Site, name: str) -> subprocess.Popen[str]:
    """Start a worker as on a host of its own: nobody there can see whether it still runs."""
    site.settings["WORKER_NAME"] = name
    return site.start()


def _start_once(site: Site, name: str) -> subprocess.Popen[str]:
    site.settings["WORKER_NAME"] = name
    return site.start("--once")


def _feed(site: Site, everything: dict[str, bytes], count: int) -> None:
    new = films.small_batch(count, seed=len(everything))
    everything |= new
    site.drop(new)


def _workers_of(site: Site) -> set[str]:
    rows = site.query("SELECT DISTINCT worker FROM scans WHERE screened_at IS NOT NULL")
    return {row["worker"].rsplit("-", 3)[0] for row in rows}


def _in_hand(site: Site, name: str) -> int:
    """Count the films that a worker has claimed, but for those that another had just filed."""
    rows = site.query(
        f"SELECT file_name FROM scans WHERE state = 'claimed' AND worker LIKE '{name}-%'"
    )
    return sum((site.inbox / row["file_name"]).exists() for row in rows)


def _others_may_write(site: Site) -> bool:
    """Tell whether no lock on a SQLite file is held: one that is frozen with it holds up everybody.

    Nobody but its holder can free it. A lock on Postgres the server frees.
    """
    if not site.database_url.startswith("sqlite"):
        return True
    path = site.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as connection:
        try:
            # More than to begin: a reader that is frozen keeps others from committing, too.
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
    return True


@pytest.mark.parametrize(
    "workers", [2, pytest.param(4, marks=pytest.mark.soak), pytest.param(8, marks=pytest.mark.soak)]
)
def test_they_share_the_inbox(any_site: Site, trial: Trial, workers: int) -> None:
    """Every worker does some of it, and each film is answered by one."""
    site, everything = any_site, dict[str, bytes]()
    site.settings["SCREENERS"] = "1"
    for number in range(workers):
        _start(site, f"host{number}")
    for _ in range(trial.count(1, 10)):
        _feed(site, everything, 40 * workers)
        site.wait_until_finished(len(everything))
        trial.rounds += 1

    def all_have() -> bool:
        if len(_workers_of(site)) < workers and site.finished() == len(everything):
            _feed(site, everything, 40 * workers)
        return len(_workers_of(site)) == workers

    wait_for(all_have, what="every worker has answered some")
    site.wait_until_finished(len(everything))
    vain = site.query("SELECT count(*) AS n FROM scans WHERE state = 'withdrawn'")
    assert vain[0]["n"] < len(everything) / 4, "they do not claim what another has done"
    trial.end(site, everything, rounds=0)


@pytest.mark.slow
def test_whoever_works_off_an_inbox_offers_none_of_it(site: Site, trial: Trial) -> None:
    """`run --once` answers for all that is there: what another had taken it could not wait for."""
    everything: dict[str, bytes] = {}
    site.settings |= {"SCREENERS": "1", "LEASE_SECONDS": "2"}  # they hear of each other soon
    _feed(site, everything, 2500)
    once = _start_once(site, "host0")
    wait_for(lambda: site.finished() > 0, what="it is at work")
    with closing(sqlite3.connect(site.root / "lungwatch.db", timeout=30)) as connection:
        connection.executescript(
            "CREATE TABLE offers (id); CREATE TRIGGER offered AFTER INSERT ON scans "
            "WHEN NEW.worker = '' BEGIN INSERT INTO offers VALUES (NEW.id); END"
        )
    _start(site, "host1")
    assert once.wait() == 0
    assert len(site.query("SELECT name FROM workers")) == 2, "there was another to offer them to"
    assert site.query("SELECT id FROM offers") == []
    site.wait_until_finished(len(everything))
    trial.end(site, everything)


@pytest.mark.parametrize("end", ["frozen", "killed"])
def test_one_of_them_drops_out(any_site: Site, trial: Trial, end: str) -> None:
    """Frozen past its lease, or dead on another host: others take over; thawed, it does no harm."""
    site, everything = any_site, dict[str, bytes]()
    site.settings |= {"SCREENERS": "1", "LEASE_SECONDS": "2", "DATABASE_SECONDS": "2"}
    others = trial.count(1, 3)
    for number in range(others):
        _start(site, f"other{number}")
    for number in range(trial.count(1, 10)):
        name = f"victim{number}"
        victim = _start(site, name)

        def holds(name: str = name, victim: subprocess.Popen[str] = victim) -> bool:
            if site.finished() == len(everything):
                _feed(site, everything, 60)
            if not _in_hand(site, name):
                return False
            freeze(victim.pid)
            held = _others_may_write(site) and _in_hand(site, name) > 0
            if not held:
                thaw(victim.pid)
            return held

        wait_for(holds, every=0.01, what="it has films in hand and is frozen")
        if end == "killed":
            site.stop(victim, signal.SIGKILL)
        with trial.recovery():
            _feed(site, everything, 5)
            site.wait_until_finished(len(everything))
        taken = site.query(
            "SELECT count(*) AS n FROM scans WHERE attempt > 1 AND worker LIKE 'other%'"
        )
        assert taken[0]["n"], "somebody took over"
        if end == "frozen":
            thaw(victim.pid)
            _wait_for_beat(site, name)
            _feed(site, everything, 20)
            site.wait_until_finished(len(everything))
            assert site.stop(victim) == 0
        trial.rounds += 1
    trial.end(site, everything, rounds=0)


def _wait_for_beat(site: Site, name: str) -> None:
    beat = f"SELECT beat_at FROM workers WHERE name LIKE '{name}-%'"
    before = site.query(beat)
    wait_for(lambda: site.query(beat) != before, what="it lives on")
