"""The listing of the inbox: who begins one, and when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.inbox.folders import Inbox
from worker.inbox.scanner import Lookout
from worker.inbox.watcher import Watcher
from worker.system.folders import Folders

SCAN = 10.0


@pytest.fixture
def lookout(tmp_path: Path) -> Iterator[Lookout]:
    """Yield the lookout over an inbox with one film."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "film.jpg").write_bytes(b"film")
    inbox = Inbox(Folders(inbox=folder, archive=tmp_path, refused=tmp_path))
    lookout = Lookout(inbox, Watcher(folder, os.sync), scan_seconds=SCAN)
    yield lookout
    lookout.stop()


def listings(lookout: Lookout, *, another_lists: bool) -> int:
    """Return how often it lists within the time of twenty listings."""
    found: list[str] = []

    def notice(name: str, now: float, *, whole: bool) -> None:  # noqa: ARG001 - as it is called
        found.append(name)

    for tick in range(int(20 * SCAN)):
        now = float(tick)
        if lookout.is_due(now):
            lookout.begin(now, another_lists=another_lists)
        lookout.look(now, notice=notice, has_room=lambda: True)
    return len(found)


def unheard(name: str, now: float, *, whole: bool) -> None:
    """Take no note of a name."""


def test_a_doubt_while_it_lists(lookout: Lookout, tmp_path: Path) -> None:
    """What came behind the listing is not left until the next that is due."""
    assert lookout.is_due(1.0)
    lookout.begin(1.0)
    (tmp_path / "inbox").rename(tmp_path / "before")
    (tmp_path / "inbox").mkdir()
    assert not lookout.is_due(2.0)
    for now in (2.0, 3.0):
        lookout.look(now, notice=unheard, has_room=lambda: True)
    assert not lookout.listing
    assert lookout.is_due(3.0)
    lookout.begin(3.0)
    lookout.look(3.0, notice=unheard, has_room=lambda: True)
    assert not lookout.is_due(4.0)


def test_alone_it_lists_each_time(lookout: Lookout) -> None:
    """A worker that nobody helps lists the inbox as often as it is set to."""
    assert listings(lookout, another_lists=False) == 20
    assert lookout.listed_once


def test_where_another_lists_it_does_so_now_and_then(lookout: Lookout) -> None:
    """Beside a worker that lists, this one looks one time in ten, in case that one is deceived."""
    assert listings(lookout, another_lists=True) == 2
    assert lookout.listed_once


def test_ready_though_the_listing_has_not_ended(lookout: Lookout) -> None:
    """With more films waiting than may be known at once, it can list long before it has listed."""
    for number in range(3):
        (lookout._inbox.folder / f"more-{number}.jpg").write_bytes(b"film")
    found: list[str] = []

    def notice(name: str, now: float, *, whole: bool) -> None:  # noqa: ARG001 - as it is called
        found.append(name)

    def state() -> tuple[bool, bool]:
        return lookout.can_list, lookout.listed_once

    assert lookout.is_due(0.0)
    lookout.begin(0.0)
    assert state() == (False, False)
    lookout.look(0.0, notice=notice, has_room=lambda: len(found) < 2)
    assert state() == (True, False)
