"""Deaf: the watched folder is another one, or nobody listens to events any more."""

from __future__ import annotations

import films
import pytest
from driver import Site, wait_for
from programs import with_program
from swaps import report
from trials import Trial
from volumes import volume

_DEAF = """
import os, worker.inbox.watcher

heard = worker.inbox.watcher._Handler.on_any_event

def on_any_event(self, event):
    if os.path.exists(os.environ["TRIAL_RAISE"]):
        open(os.environ["TRIAL_RAISED"], "w").close()
        raise RuntimeError("a trial")
    heard(self, event)

worker.inbox.watcher._Handler.on_any_event = on_any_event
"""


def _listening(site: Site) -> None:
    """Start a worker that lists the inbox seldom, and wait until it listens to events."""
    site.settings |= {"SCAN_SECONDS": "3600", "SCREENERS": "1"}
    site.start()
    wait_for(lambda: report(site).get("events") and report(site).get("model"), what="it watches")
    first = films.small_batch(1, seed=999)
    site.drop(first)
    site.wait_until_finished(1)


@pytest.mark.parametrize("how", [pytest.param("removed", marks=pytest.mark.slow), "renamed"])
def test_another_inbox_in_its_place(site: Site, trial: Trial, how: str) -> None:
    """Removed or renamed away, and made again: films are found there, listed or told by events."""
    _listening(site)
    everything = films.small_batch(1, seed=999)
    for number in range(trial.count(2, 50)):
        if how == "removed":
            site.inbox.rmdir()
        else:
            site.inbox.rename(site.root / f"away-{number}")
        if number % 2:
            wait_for(lambda: "storage" in str(report(site).get("trouble")), what="it is missed")
        site.inbox.mkdir()
        new = films.small_batch(3, seed=number)
        everything |= new
        with trial.recovery():
            site.drop(new)
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    trial.end(site, everything, rounds=0)


@pytest.mark.slow
def test_something_mounted_over_the_inbox(site: Site, trial: Trial) -> None:
    """What is mounted over it is the inbox while it is there, and what is beneath is afterwards."""
    _listening(site)
    everything = films.small_batch(1, seed=999)
    for number in range(trial.count(1, 20)):
        beneath, above = (
            films.small_batch(2, seed=2 * number),
            films.small_batch(3, seed=2 * number + 1),
        )
        with volume(site.inbox):
            everything |= above
            site.drop(above)
            site.wait_until_finished(len(everything))
            site.check_invariants(everything)
        everything |= beneath
        with trial.recovery():
            site.drop(beneath)
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    trial.end(site, everything, rounds=0)


def test_an_exception_among_the_events(site: Site, trial: Trial) -> None:
    """A listener that died of an exception is replaced, and what came meanwhile is found."""
    raising, raised = site.root / "raise", site.root / "raised"
    site.variables |= {"TRIAL_RAISE": str(raising), "TRIAL_RAISED": str(raised)}
    with_program(site, _DEAF)
    _listening(site)
    everything = films.small_batch(1, seed=999)
    for number in range(trial.count(2, 50)):
        new = films.small_batch(3, seed=number)
        everything |= new
        raising.touch()
        site.drop(new)
        wait_for(raised.exists, what="it raised")
        raising.unlink()
        raised.unlink()
        with trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
    trial.end(site, everything, rounds=0)
