"""The database stopped, killed, frozen, cut off, or locked by somebody else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import films
import psycopg
import pytest
from driver import Site, wait_for
from servers import OwnPostgres, own_postgres
from trials import Trial

_ANSWER_SECONDS = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    """Return a Postgres that only the tests of this module use, and use up."""
    with own_postgres() as one:
        yield one


@pytest.fixture
def own_site(tmp_path: Path, server: OwnPostgres) -> Iterator[Site]:
    """Yield a place on that Postgres, its database fresh, for a worker of little patience."""
    place = Site(tmp_path, server.fresh())
    place.settings |= {"SCREENERS": "1", "DATABASE_SECONDS": str(_ANSWER_SECONDS)}
    yield place
    place.end()


def _said(site: Site) -> int:
    return site.log().count('"event": "trouble"')


class _Round:
    """Films dropped before, during and after the database is away."""

    def __init__(self, site: Site, trial: Trial) -> None:
        self.site, self.trial = site, trial
        self.everything: dict[str, bytes] = {}
        self.worker = site.start()

    def feed(self, count: int = 12) -> None:
        new = films.small_batch(count, seed=len(self.everything))
        self.everything |= new
        self.site.drop(new)

    def under_load(self) -> None:
        """Have the worker busy, with more to do."""
        goal = self.site.finished() + 1
        self.feed(24)
        self.site.wait_until_finished(goal)

    def until_said(self, before: int) -> None:
        """Wait until the worker says that there is trouble."""
        wait_for(lambda: _said(self.site) > before, what="it says so")
        assert self.worker.poll() is None
        self.feed()

    def over(self) -> None:
        """All is well again: see that it goes on by itself."""
        with self.trial.recovery():
            self.site.wait_until_finished(len(self.everything))
        self.trial.rounds += 1

    def end(self) -> None:
        assert self.worker.poll() is None, "it must be the same process all the while"
        self.trial.end(self.site, self.everything, rounds=0)


def _away(trial: Trial) -> None:
    """Let a while pass with nothing there: in a soak as long as it takes to reboot a server."""
    if trial.soak:
        time.sleep(60)  # the fault itself


@pytest.mark.slow
def test_stopped_for_a_minute(own_site: Site, trial: Trial, server: OwnPostgres) -> None:
    """Stopped under load and started again: the worker goes on by itself."""
    story = _Round(own_site, trial)
    for _ in range(trial.count(1, 20)):
        story.under_load()
        before = _said(own_site)
        server.stop()
        try:
            story.until_said(before)
            _away(trial)
        finally:
            server.start()
        story.over()
    story.end()


def test_killed_at_once(own_site: Site, trial: Trial, server: OwnPostgres) -> None:
    """Killed in mid-transaction: what it had committed stands, and what not is done again."""
    story = _Round(own_site, trial)
    for _ in range(trial.count(1, 20)):
        story.under_load()
        before = _said(own_site)
        server.kill()
        try:
            story.until_said(before)
        finally:
            server.start()
        story.over()
    story.end()


@pytest.mark.slow
def test_connections_ended_in_a_loop(own_site: Site, trial: Trial, server: OwnPostgres) -> None:
    """Every connection ended again and again: in the end all is answered, nothing twice."""
    story = _Round(own_site, trial)
    story.under_load()
    ended = 0
    while ended < trial.count(10, 500):
        with suppress(psycopg.Error):
            ended += server.end_connections()
        if len(story.everything) < 10 * ended:
            story.feed(4)
    story.over()
    assert _said(own_site)
    story.end()


def test_frozen(own_site: Site, trial: Trial, server: OwnPostgres) -> None:
    """Frozen, so that connections stand and nobody answers: it is away, until it is thawed."""
    story = _Round(own_site, trial)
    for _ in range(trial.count(1, 20)):
        story.under_load()
        before = _said(own_site)
        with server.frozen():
            story.until_said(before)
            _away(trial)
        story.over()
    story.end()


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    other = sqlite3.connect(database, isolation_level=None, timeout=60)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_locked_by_another_process(site: Site, trial: Trial) -> None:
    """An SQLite that somebody else holds for longer than we wait is away, until it is free."""
    site.settings |= {"SCREENERS": "1", "DATABASE_SECONDS": str(_ANSWER_SECONDS)}
    story = _Round(site, trial)
    for _ in range(trial.count(1, 20)):
        story.under_load()
        before = _said(site)
        with _locked(site.root / "lungwatch.db"):
            story.until_said(before)
            _away(trial)
        story.over()
    story.end()
