"""The database and the folders as they stood at one instant, opened elsewhere and reconciled.

What a disk had not been told to keep is kept here all the same: the instants are those of the
file system as processes see it. What order the disk itself is told is the crash points' business.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import films
import pytest
from driver import Site
from servers import freeze, thaw
from swaps import children
from trials import Trial


def _link(source: str, target: str) -> None:
    """Give a film a second name: inode and times stay, as they do over a power cut."""
    os.link(source, target)


def _copy(site: Site, root: Path) -> Site:
    """Return the site as it is now, in another place."""
    for folder in ("inbox", "archive", "refused"):
        if (site.root / folder).exists():
            shutil.copytree(site.root / folder, root / folder, copy_function=_link)
    for path in site.root.glob("lungwatch.db*"):
        shutil.copyfile(path, root / path.name)
    other = Site(root)
    other.settings |= site.settings | {"MODELS": str(site.models)}
    return other


@pytest.mark.slow
def test_an_instant(site: Site, trial: Trial, tmp_path: Path) -> None:
    """Whatever instant the power fails at, the next start comes to the same end."""
    chance = random.Random(17)
    site.settings |= {"SCREENERS": "1"}
    worker, everything, unfinished = site.start(), dict[str, bytes](), 0
    for number in range(trial.count(4, 100)):
        new = films.small_batch(30, seed=number)
        bad = films.truncated(next(iter(new.values())), 50)
        new[f"bad-{number}.jpg"] = bad
        everything |= new
        site.drop(new)
        time.sleep(chance.uniform(0.05, 0.6))  # a random instant is the fault
        freeze(worker.pid)
        for screener in children(worker.pid):
            freeze(screener)
        root = tmp_path / f"after-{number}"
        root.mkdir()
        after = _copy(site, root)
        for screener in children(worker.pid):
            thaw(screener)
        thaw(worker.pid)
        unfinished += any(after.inbox.iterdir())
        with trial.recovery():
            after.call("run", "--once")
        trial.end(after, everything)
        shutil.rmtree(root)
    assert unfinished, "the instants must be in the middle of something"
    site.wait_until_finished(len(everything))
    site.check_invariants(everything)
