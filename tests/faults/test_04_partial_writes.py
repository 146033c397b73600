"""Copies that are slow, stall, preallocate, or change under the worker's hands."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import films
from driver import Site, wait_for
from servers import freeze, thaw
from swaps import children, report
from trials import Trial

_SETTLE = 0.4
_DAY = 86_400.0


def _slowly(path: Path, data: bytes) -> None:
    """Write a little at a time, never still for as long as it takes to be still."""
    with path.open("wb") as file:
        for start in range(0, len(data), max(1, len(data) // 12)):
            file.write(data[start : start + max(1, len(data) // 12)])
            file.flush()
            time.sleep(_SETTLE / 4)  # the fault itself: a copy that takes its time


def _stalling(path: Path, data: bytes) -> None:
    """Pause in mid-copy for three times as long as it takes to be still."""
    path.write_bytes(data[: len(data) // 2])
    time.sleep(3 * _SETTLE)  # the fault itself
    with path.open("ab") as file:
        file.write(data[len(data) // 2 :])


def _preallocated(path: Path, data: bytes) -> None:
    """Take the room first, wait, and fill it from the front."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        for start in range(0, len(data), max(1, len(data) // 3)):
            time.sleep(1.5 * _SETTLE)  # the fault itself
            file.write(data[start : start + max(1, len(data) // 3)])
            file.flush()


def _renamed(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    _slowly(temporary, data)
    temporary.rename(path)


def _linked(path: Path, data: bytes) -> None:
    """A hard link is a file like any other."""
    original = path.parent.parent / f"original-{path.name}"
    original.write_bytes(data)
    path.hardlink_to(original)


def _dated(days: float) -> Callable[[Path, bytes], None]:
    def write(path: Path, data: bytes) -> None:
        path.write_bytes(data)
        moment = time.time() + days * _DAY
        os.utime(path, (moment, moment))

    return write


def _reopened(path: Path, data: bytes) -> None:
    """Open, write and close again and again."""
    for start in range(0, len(data), max(1, len(data) // 20)):
        with path.open("ab") as file:
            file.write(data[start : start + max(1, len(data) // 20)])
        time.sleep(_SETTLE / 10)  # the fault itself


_WAYS = {
    "slowly": _slowly,
    "stalling": _stalling,
    "preallocated": _preallocated,
    "renamed": _renamed,
    "linked": _linked,
    "old": _dated(-4000),
    "of_the_future": _dated(400),
    "reopened": _reopened,
}


def test_every_way_to_copy(site: Site, trial: Trial) -> None:
    """However a film is written, it is answered once, whole, and only when it is whole."""
    site.settings |= {"SETTLE_SECONDS": str(_SETTLE), "INCOMPLETE_SECONDS": "3600"}
    site.start()
    everything: dict[str, bytes] = {}
    for number in range(trial.count(1, 10)):
        drawn = iter(films.small_batch(len(_WAYS), seed=number).values())
        new = {f"{way}-{number}.jpg": next(drawn) for way in _WAYS}
        everything |= new
        writers = [
            threading.Thread(
                target=write, args=(site.inbox / f"{way}-{number}.jpg", new[f"{way}-{number}.jpg"])
            )
            for way, write in _WAYS.items()
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        with trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    assert all(row["decision"] for row in site.results())
    trial.end(site, everything, rounds=0)


def test_changed_after_the_claim(any_site: Site, trial: Trial) -> None:
    """Replaced, or appended to, after the claim and before it is read: read anew, answered once."""
    site = any_site
    site.settings |= {"SCREENERS": "1"}
    worker = site.start()
    wait_for(lambda: report(site).get("model"), what="it serves")
    everything: dict[str, bytes] = {}
    for number in range(trial.count(2, 50)):
        before, after = (
            films.small_batch(4, seed=2 * number),
            films.small_batch(4, seed=2 * number + 1),
        )
        new = dict(zip(before, after.values(), strict=True))
        (screener,) = children(worker.pid)
        freeze(screener)
        site.drop(before)
        wait_for(partial(_all_claimed, site, len(new)), what="all claimed")
        for position, (name, data) in enumerate(new.items()):
            if position % 2:
                (site.inbox / "new.part").write_bytes(data)
                (site.inbox / "new.part").rename(site.inbox / name)
            else:
                with (site.inbox / name).open("ab") as file:
                    file.write(data)  # what follows a film's end is no part of it
                new[name] = before[name] + data
        everything |= new
        with trial.recovery():
            thaw(screener)
            site.wait_until_finished(len(everything))
        withdrawn = site.query("SELECT count(*) AS n FROM scans WHERE state = 'withdrawn'")
        trial.rounds += 1
        assert withdrawn == [{"n": len(everything)}], "each was claimed before it changed"
    trial.end(site, everything, rounds=0)


def _all_claimed(site: Site, count: int) -> bool:
    return site.query("SELECT count(*) AS n FROM scans WHERE state = 'claimed'") == [{"n": count}]
