"""Other releases on one database: 0.1.0 before this one, and a later one after or beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import films
import pytest
from databases import Postgres
from driver import Site, wait_for
from releases import later_release, release_0_1_0

from worker.errors import DatabaseTrouble

pytestmark = pytest.mark.slow


@contextmanager
def run_by(site: Site, release: Path) -> Iterator[None]:
    """Have what is started meanwhile run the code of another release."""
    site.variables["PYTHONPATH"] = str(release)
    try:
        yield
    finally:
        del site.variables["PYTHONPATH"]


def some(name: str, count: int = 3) -> dict[str, bytes]:
    """Draw films that no other call draws."""
    seed = sum(name.encode())
    drawn = films.small_batch(count, seed=seed).items()
    return {f"{name}-{film}": data for film, data in drawn}


@pytest.fixture
def empty_site(tmp_path: Path, empty_database_url: str) -> Iterator[Site]:
    """Yield a fresh place on each database, without tables."""
    place = Site(tmp_path / "site", empty_database_url)
    yield place
    place.end()


def test_what_0_1_0_screened_is_kept(empty_site: Site, tmp_path: Path) -> None:
    """Its rows stay as they are, its films are not screened again, and new ones are."""
    site, before, after = empty_site, some("before"), some("after")
    with run_by(site, release_0_1_0(tmp_path / "0.1.0")):
        assert "0.1.0" in site.call("--version").stdout
        site.drop(before)
        site.call("run", "--once")
        assert site.query("SELECT * FROM alembic_version") == [{"version_num": "0005"}]
    rows = site.results()
    assert "start the worker" in site.call("check", status=1).stdout
    site.drop(after)
    site.call("run", "--once")
    assert site.results()[: len(before)] == rows
    site.check_invariants(before | after)


def test_the_way_back(any_site: Site, tmp_path: Path) -> None:
    """A later release adds to the schema; this one then screens on it, and says so."""
    site, said = any_site, "of a newer release. Lungwatch"
    before, by_later, after = some("before"), some("later"), some("after")
    site.drop(before)
    site.call("run", "--once")
    with run_by(site, later_release(tmp_path / "later", oldest_release="0.2.0")):
        site.drop(by_later)
        site.call("run", "--once")
        assert said not in site.call("results").stderr
    site.drop(after)
    assert said in site.call("run", "--once").stdout
    site.check_invariants(before | by_later | after)
    assert {row["later"] for row in site.results()} == {"later"}
    scan = site.results()[0]["scan_id"]
    for command in (
        ("results", "--format", "json"),
        ("label", str(scan), "NORMAL", "--by", "ada"),
        ("models", "explain", (site.models / "CHAMPION").read_text().strip()),
        ("drift",),
    ):
        told = site.call(*command)
        assert told.stderr.count(said) == 1, command
        assert said not in told.stdout
    (line,) = (one for one in site.call("check").stdout.splitlines() if said in one)
    assert line.startswith("ok")


def test_a_later_release_that_closes_the_way_back(any_site: Site, tmp_path: Path) -> None:
    """Nothing is done on its schema; each command says which release it needs, and what to do."""
    site, left = any_site, some("left")
    with run_by(site, later_release(tmp_path / "later", oldest_release="9.0.0")):
        site.call("run", "--once")
    site.drop(left)
    needs = "needs Lungwatch 9.0.0 or newer, and this is 0.2.0: install 9.0.0 or newer, or restore"
    for status, command in (
        (1, ("run", "--once")),
        (1, ("check",)),
        (2, ("results",)),
        (2, ("status",)),
        (2, ("models", "explain", "first")),
    ):
        told = site.call(*command, status=status)
        assert needs in told.stdout + told.stderr, command
    assert {path.name for path in site.inbox.iterdir()} == left.keys()
    assert site.results() == []


@pytest.mark.slow
def test_two_releases_on_one_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """Both screen from one inbox; while one is upgraded, the other goes on, and can come back."""
    site = Site(tmp_path / "site", postgres.url(postgres.migrated()))
    later = later_release(tmp_path / "later", oldest_release="0.2.0")
    everything: dict[str, bytes] = {}

    def screen(name: str) -> None:
        more = some(name, 12)
        everything.update(more)
        site.drop(more)
        site.wait_until_finished(len(everything))

    def at_work() -> int:
        try:
            return len(site.query("SELECT * FROM workers WHERE stopped_at IS NULL"))
        except DatabaseTrouble:
            return 0

    try:
        mine = site.start()
        screen("mine")
        with run_by(site, later):
            other = site.start()
        wait_for(lambda: at_work() == 2, what="both are at work")
        screen("both")
        assert site.stop(other) == 0
        screen("mine alone, on the later schema")
        assert site.stop(mine) == 0
        with run_by(site, later):
            other = site.start()
        screen("the other alone")
        mine = site.start()
        wait_for(lambda: at_work() == 2, what="both are at work again")
        screen("both again")
        assert (site.stop(mine), site.stop(other)) == (0, 0)
        assert site.log().count("newer schema") == 1
        assert '"event": "trouble"' not in site.log()
        site.check_invariants(everything)
    finally:
        site.end()
