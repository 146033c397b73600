"""An inbox that sends no events, whose reads fail, and that goes away: FUSE in a share's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import films
import fuse
import pytest
from driver import Site, wait_for
from swaps import report, wait_until_serving
from trials import Trial
from volumes import unmount


class Share:
    """The site's inbox as a share, and the folder beneath it that others write to."""

    def __init__(self, site: Site) -> None:
        """Know the folders; nothing is mounted yet."""
        self.site = site
        self.beneath = site.root / "beneath"
        self.beneath.mkdir(exist_ok=True)
        self.stale, self.stale_met = site.root / "stale", site.root / "stale-met"
        self._listed_by = site.root / "listed-by"

    @contextmanager
    def mounted(self) -> Iterator[subprocess.Popen[str]]:
        """Serve it, and unmount it whatever happens; skip where that may not be."""
        if os.geteuid() != 0:
            pytest.skip("only root can mount a stand-in for a share")
        if not Path("/dev/fuse").exists():
            pytest.skip("this machine has no /dev/fuse")
        folders = map(str, (self.site.inbox, self.beneath, self.site.root))
        command = [sys.executable, fuse.__file__, *folders]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            assert server.stderr is not None
            if server.stdout.readline() != "mounted\n":
                told = server.stderr.read().strip().splitlines()[-1]
                pytest.skip(f"this machine allows no FUSE: {told}")
            try:
                yield server
            finally:
                unmount(self.site.inbox)
                server.kill()

    def drop(self, new: dict[str, bytes]) -> None:
        """Write films as another host does: no event is sent."""
        for name, data in new.items():
            (self.beneath / f".{name}").write_bytes(data)
            (self.beneath / f".{name}").rename(self.beneath / name)

    def listings(self) -> Counter[int]:
        """Return how often each process has listed it."""
        if not self._listed_by.exists():
            return Counter()
        return Counter(map(int, self._listed_by.read_text(encoding="ascii").split()))


@pytest.fixture
def share(any_site: Site) -> Share:
    """Return a share that is the inbox of a site."""
    any_site.settings |= {"SCREENERS": "1"}
    return Share(any_site)


def test_written_from_underneath(share: Share, trial: Trial, shipped: Path) -> None:
    """No event tells of a film: it is known for a share, listed, and every film is found."""
    site, everything = share.site, dict[str, bytes]()
    with share.mounted():
        site.start()
        wait_until_serving(site, shipped.name)
        assert report(site)["events"] is False, "the listing alone is relied on"
        for number in range(trial.count(2, 30)):
            new = films.small_batch(8, seed=number)
            everything |= new
            share.drop(new)
            with trial.recovery():
                site.wait_until_finished(len(everything))
            trial.rounds += 1
        trial.end(site, everything, rounds=0)


@pytest.mark.slow
def test_one_lists_and_all_screen(share: Share, trial: Trial) -> None:
    """Of workers on several hosts one lists the share, all screen, and another lists after it."""
    site, everything = share.site, dict[str, bytes]()
    site.settings |= {"LEASE_SECONDS": "5"}

    def feed() -> None:
        new = films.small_batch(400, seed=len(everything))
        everything.update(new)
        share.drop(new)

    def all_have_screened() -> bool:
        if site.finished() == len(everything):
            feed()
        rows = site.query("SELECT count(DISTINCT worker) AS n FROM scans WHERE state = 'filed'")
        return bool(rows[0]["n"] == trial.count(3, 8))

    with share.mounted():
        workers = []
        for number in range(trial.count(3, 8)):
            site.settings["WORKER_NAME"] = f"host{number}"  # nobody sees whether it still runs
            workers.append(site.start())
            wait_for(partial(_there, site, number + 1), what="it is there")
        first, *others = (worker.pid for worker in workers)
        began = share.listings()
        wait_for(all_have_screened, what="all of them have screened")
        wait_for(lambda: (share.listings() - began)[first] >= 10, what="ten listings")
        listings = share.listings() - began
        assert sum(listings[pid] for pid in others) < 4 * len(others), "they leave it to the first"
        site.stop(workers[0], signal.SIGKILL)
        with trial.recovery():
            feed()
            site.wait_until_finished(len(everything))
        vain = site.query("SELECT 1 FROM scans WHERE state = 'withdrawn'")
        assert len(vain) < len(everything) / 4, "they do not work in vain"
        trial.end(site, everything, rounds=1)


def _there(site: Site, count: int) -> bool:
    try:
        return len(site.query("SELECT name FROM workers WHERE stopped_at IS NULL")) >= count
    except Exception:  # noqa: BLE001 - no tables yet
        return False


def test_reads_that_fail(share: Share, trial: Trial, shipped: Path) -> None:
    """Reads that fail with ESTALE are no fault of the film: it is read later."""
    site, everything = share.site, dict[str, bytes]()
    with share.mounted():
        site.start()
        wait_until_serving(site, shipped.name)
        for number in range(trial.count(1, 20)):
            new = films.small_batch(4, seed=number)
            everything |= new
            share.stale.touch()
            share.drop(new)
            wait_for(share.stale_met.exists, what="a read fails")
            share.stale.unlink()
            share.stale_met.unlink()
            with trial.recovery():
                site.wait_until_finished(len(everything))
            trial.rounds += 1
        assert all(row["decision"] for row in site.results())
        trial.end(site, everything, rounds=0)


def test_a_name_longer_than_the_archive_takes(share: Share, trial: Trial) -> None:
    """A share's names may have more bytes than a disk's: cut, they hold up no film, their own too.

    Such a film is archived under its name as far as that goes, and its row has all of it.
    """
    site = share.site
    long, *others = films.small_batch(3).items()
    name = fuse.LETTERS + ".jpeg"
    with share.mounted():
        share.drop({"LETTERS.jpeg": long[1]})
        share.drop(dict(others))
        site.call("run", "--once")
        trial.end(site, {name: long[1], **dict(others)})
    (row,) = (row for row in site.results() if row["file_name"] == name)
    filed = row["filed_as"].partition("/")[2]
    assert name.startswith(filed.removesuffix(".jpeg"))
    assert len(filed.encode()) == 255


@pytest.mark.slow
def test_the_share_goes_away(share: Share, trial: Trial, shipped: Path) -> None:
    """Its server killed, it is waited for; mounted again, work goes on where it stood."""
    site, everything = share.site, dict[str, bytes]()
    site.call("check", status=None)
    worker = site.start()
    wait_until_serving(site, shipped.name)
    for number in range(trial.count(1, 20)):
        new = films.small_batch(24, seed=number)
        everything |= new
        with share.mounted() as server:
            goal = site.finished() + 1
            share.drop(new)
            site.wait_until_finished(goal)
            server.kill()
            wait_for(lambda: "storage" in str(report(site).get("trouble")), what="it says so")
            assert worker.poll() is None
        with share.mounted(), trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    trial.end(site, everything, rounds=0)
