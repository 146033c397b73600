"""Eight workers start at once where there is nothing yet, and one is killed while it migrates."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import films
import pytest
from databases import Postgres
from driver import Site
from tracing import calls_in, strace
from trials import Trial

from worker.db.schema import REVISION

_STARTERS = 8


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest) -> Postgres | None:
    """Return the server to make an empty database on; None means SQLite."""
    server: Postgres | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
    return server


def _site(root: Path, empty: Postgres | None) -> Site:
    site = Site(root, "" if empty is None else empty.url(empty.create()))
    site.settings |= {"SCREENERS": "1"}
    return site


def _all_end_well(starters: list[subprocess.Popen[str]]) -> None:
    assert [one.wait() for one in starters] == [0] * len(starters)


def test_eight_first_starts(tmp_path: Path, trial: Trial, empty: Postgres | None) -> None:
    """The schema is made once, nobody fails, and the films are shared: each is answered once."""
    for number in range(trial.count(1, 50)):
        site = _site(tmp_path / str(number), empty)
        everything = films.small_batch(_STARTERS, seed=number)
        site.drop(everything)
        try:
            _all_end_well([site.start("--once") for _ in range(_STARTERS)])
        finally:
            site.end()
        assert site.query("SELECT version_num FROM alembic_version") == [{"version_num": REVISION}]
        trial.end(site, everything)


def test_killed_while_it_migrates(tmp_path: Path, trial: Trial, empty: Postgres | None) -> None:
    """Killed at any point of a first start, the next start finds nothing half-made."""
    points = ("pwrite64", "fdatasync") if empty is None else ("sendto",)
    site = _site(tmp_path / "undisturbed", empty)
    log = site.root / "calls"
    assert site.start("--once", wrapper=strace(log, calls=points)).wait() == 0
    usual, rounds = len(calls_in(log)), trial.count(3, 25)
    for number in range(rounds):
        site = _site(tmp_path / str(number), empty)
        everything = films.small_batch(2, seed=number)
        site.drop(everything)
        log = site.root / "calls"
        when = 1 + number * (usual - 1) // rounds
        inject = f"signal=SIGKILL:when={when}"
        killed = site.start("--once", wrapper=strace(log, calls=points, inject=inject))
        assert killed.wait() == -signal.SIGKILL
        assert len(calls_in(log)) >= when
        with trial.recovery():
            site.call("run", "--once")
        assert site.query("SELECT version_num FROM alembic_version") == [{"version_num": REVISION}]
        trial.end(site, everything)
