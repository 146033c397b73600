"""A disk that is full, read-only, out of names, or fails: on each of the folders alone."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import films
import pytest
from driver import Site, wait_for
from swaps import report, wait_until_serving
from tracing import injected, strace
from trials import Trial
from volumes import Volume, volume

Fault = Callable[[Volume], None]


def _read_only(there: Volume) -> None:
    there.remount("ro")


def _free(there: Volume) -> None:
    there.remount("rw")
    there.free()


FAULTS: dict[str, Fault] = {
    "full": Volume.fill,
    "no names left": Volume.use_up_names,
    "read-only": _read_only,
}
# An open database needs no new names, and its disk cannot be made read-only.
FOLDERS = {"archive": list(FAULTS), "refused": list(FAULTS), "database": ["full"]}


def _batch(number: int) -> dict[str, bytes]:
    return films.small_batch(6, seed=number) | {
        f"bad-{number}-{index}.jpg": films.truncated(data, 70)
        for index, data in enumerate(films.small_batch(3, seed=1000 + number).values())
    }


def _said(site: Site) -> int:
    return site.log().count('"event": "trouble"')


def _says_more(site: Site, before: int) -> bool:
    return _said(site) > before


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_disk_in_trouble(site: Site, trial: Trial, shipped: Path, folder: str) -> None:
    """The worker stays up, says so, holds it against no film, and goes on when it is over."""
    site.settings |= {"SCREENERS": "1"}
    site.database_url = f"sqlite:///{site.root}/database/lungwatch.db"
    everything: dict[str, bytes] = {}
    with volume(site.root / folder, options="size=4m,nr_inodes=2k") as there:
        worker = site.start()
        wait_until_serving(site, shipped.name)
        for number in range(trial.count(1, 6)):
            for kind, fault in enumerate(FOLDERS[folder]):
                everything |= (new := _batch(10 * number + kind))
                said = _said(site)
                FAULTS[fault](there)
                site.drop(new)
                wait_for(partial(_says_more, site, said), what="it says so")
                assert site.finished() < len(everything)
                assert worker.poll() is None
                with trial.recovery():
                    _free(there)
                    site.wait_until_finished(len(everything))
                wait_for(lambda: not report(site).get("trouble"), what="it is over")
                trial.rounds += 1
        assert site.query("SELECT max(crashes) AS n FROM scans") == [{"n": 0}]
        trial.end(site, everything, rounds=0)
        site.stop(worker)


ERRORS = {
    # what fails, with what, and how often before it goes well again
    "moves full": (("renameat2",), "ENOSPC", 12),
    "moves failing": (("renameat2",), "EIO", 12),
    "moves across": (("renameat2",), "EXDEV", 1000),
    "moves unknown": (("renameat2",), "EINVAL", 1000),
    "syncs failing": (("fsync",), "EIO", 6),
    "database syncs failing": (("fdatasync",), "EIO", 6),
    "database full": (("pwrite64",), "ENOSPC", 12),
}


# Between failures the worker waits, longer each time.
_QUICK = ("moves across", "moves unknown", "database syncs failing")


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[] if how in _QUICK else pytest.mark.slow) for how in ERRORS]
)
def test_a_system_call_that_fails(site: Site, trial: Trial, how: str) -> None:
    """Whatever call fails for a while, and however, every film is answered in the end."""
    calls, error, times = ERRORS[how]
    site.settings |= {"SCREENERS": "1"}
    site.call("run", "--once")
    everything = _batch(0)
    site.drop(everything)
    log = site.root / "calls"
    inject = f"error={error}:when=3..{3 + times}"
    worker = site.start(wrapper=strace(log, calls=calls, inject=inject))
    number = 0

    def enough() -> bool:
        nonlocal number
        if site.finished() == len(everything) and not injected(log):
            number += 1  # keep it busy until it has met the fault
            everything.update(_batch(number))
            site.drop(_batch(number))
        return injected(log) > 0

    wait_for(enough, what="a call fails")
    with trial.recovery():
        site.wait_until_finished(len(everything))
    assert worker.poll() is None
    trial.end(site, everything)


def test_too_many_open_files(any_site: Site, trial: Trial, shipped: Path) -> None:
    """A worker that may open nothing more waits, says so, and goes on when it may."""
    site, everything = any_site, dict[str, bytes]()
    site.settings |= {"SCREENERS": "1"}
    worker = site.start()
    wait_until_serving(site, shipped.name)
    most = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    for number in range(trial.count(1, 30)):
        everything |= (new := _batch(number))
        said = _said(site)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, most[1]))
        site.drop(new)
        wait_for(partial(_says_more, site, said), what="it says so")
        assert worker.poll() is None
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, most)
        with trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    trial.end(site, everything, rounds=0)
