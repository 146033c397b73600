"""An archive screened by a Ray cluster: the rows of one machine, whatever becomes of a node."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import films
import pytest
from checkout import REPOSITORY
from databases import Postgres
from driver import Site, wait_for

from worker.archive.ray_cluster import ActorSetup, Screening
from worker.errors import DataError
from worker.settings import Settings

pytestmark = pytest.mark.slow
_COLUMNS = ("sha256", "decision", "probability", "confidence", "threshold", "model_version")


@contextmanager
def two_nodes() -> Iterator[subprocess.Popen[str]]:
    """Run a cluster of two nodes; its first line is its address."""
    helper = REPOSITORY / "tests/support/ray_nodes.py"
    with subprocess.Popen(
        [sys.executable, str(helper)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@pytest.fixture
def on_postgres(tmp_path: Path, postgres: Postgres) -> Iterator[Site]:
    """Yield a place on Postgres, where leases run out soon."""
    site = Site(tmp_path, postgres.url(postgres.migrated()), settings={"LEASE_SECONDS": "5"})
    yield site
    site.end()


def an_archive(folder: Path, pictures: Mapping[str, bytes]) -> Path:
    """Write films into a folder."""
    folder.mkdir()
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    return folder


def numbers(site: Site) -> dict[str, list[Any]]:
    """Return what the rows say, by the film's name."""
    return {Path(row["file_name"]).name: [row[name] for name in _COLUMNS] for row in site.results()}


def test_a_node_is_killed_half_way(on_postgres: Site) -> None:
    """Its films fall to the other: the rows are those of a worker, and none is double."""
    site, pictures = on_postgres, films.small_batch(6000)
    archive = an_archive(site.root / "films", pictures | {"text.jpg": b"hello"})
    with two_nodes() as cluster:
        assert cluster.stdout is not None
        assert cluster.stdin is not None
        address = cluster.stdout.readline().strip()
        screening = site.start(
            str(archive), "--engine", "ray", "--address", address, command="backfill"
        )
        workers = "SELECT worker FROM scans WHERE screened_at IS NOT NULL GROUP BY worker"
        wait_for(lambda: len(site.query(workers)) == 2, every=0.01)
        cluster.stdin.write("kill the second\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "killed\n"
        assert site.finished() < len(pictures), "it was to be killed half-way"
        assert screening.wait(120) == 0, site.log()
    assert "6,001 films" in site.log()
    names = Counter(Path(row["file_name"]).name for row in site.results())
    assert names == Counter([*pictures, "text.jpg"])
    assert site.query("SELECT count(*) AS n FROM predictions")[0]["n"] == len(pictures)
    ward = Site(site.root / "ward")
    ward.drop(pictures | {"text.jpg": b"hello"})
    ward.call("run", "--once")
    assert numbers(site) == numbers(ward)


def test_a_laptop_is_told_to_stop(on_postgres: Site) -> None:
    """With no address this machine's cores are the cluster; stopped, the same command goes on."""
    site, pictures = on_postgres, films.small_batch(4000)
    archive = an_archive(site.root / "films", pictures)
    begun = site.start(str(archive), "--engine", "ray", "--address", "local", command="backfill")
    wait_for(lambda: site.finished() > 0, every=0.01)
    assert site.stop(begun, signal.SIGTERM) == 1, site.log()
    assert "continues from here" in site.log()
    done = site.finished()
    assert done < len(pictures), "it was to be stopped half-way"
    told = site.call("backfill", str(archive)).stdout
    assert f"{done:,} had a verdict" in told
    assert site.query("SELECT count(*) AS n FROM predictions")[0]["n"] == len(pictures)


def test_what_cannot_be(on_postgres: Site) -> None:
    """SQLite, an address where nobody listens, and one without Ray are told in a line."""
    archive = an_archive(on_postgres.root / "films", films.small_batch(1))
    alone = Site(on_postgres.root / "alone")
    ray = ("backfill", str(archive), "--engine", "ray")
    for site, command, why in (
        (alone, ray, "a cluster needs Postgres"),
        (on_postgres, (*ray, "--address", "localhost:1"), "no Ray cluster at localhost:1"),
        (on_postgres, (*ray, "--address", "here"), "not host:port"),
        (on_postgres, ("backfill", str(archive), "--address", "here:1"), "needs --engine ray"),
    ):
        told = site.call(*command, status=2).stderr
        assert why in told
        assert told.count("\n") == 1


def test_more_screeners_than_a_node_has_cores(on_postgres: Site) -> None:
    """No actor of so many would ever come up: that is said at once."""
    archive = an_archive(on_postgres.root / "films", films.small_batch(1))
    on_postgres.settings["SCREENERS"] = "128"
    command = ("backfill", str(archive), "--engine", "ray", "--address", "local")
    told = on_postgres.call(*command, status=2).stderr
    assert "LUNGWATCH_SCREENERS is 128, and no node of the cluster has more than" in told


def test_a_node_that_does_not_see_the_archive(tmp_path: Path) -> None:
    """It says so and screens nothing, rather than tell of films that are missing."""
    setup = ActorSetup(
        settings=Settings(), version="any", package=None, root=tmp_path / "share", screeners=1
    )
    with pytest.raises(DataError, match="share is not visible from"):
        Screening(setup)
