"""Killed: at each system call that could leave half a batch behind, and at random instants."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import films
import packages
import pytest
from driver import Site, wait_for
from swaps import children
from tracing import CRASH_POINTS, calls_in, most_of, strace
from trials import Trial

from worker.model.registry import Registry

_TOLD = ("sendto", "sendmsg")  # what the database and the screeners are told


def _batch(number: int) -> dict[str, bytes]:
    """Return a batch in which films are archived and refused."""
    drawn = films.small_batch(4, seed=number)
    sound, bad = dict(list(drawn.items())[:3]), list(drawn.items())[3]
    return sound | {f"bad-{bad[0]}": films.truncated(bad[1], 60)}


def _points(trial: Trial, calls: list[str]) -> Iterator[tuple[str, Iterable[int]]]:
    """Choose the calls to be killed at: of each name, which, counted from 1.

    In a soak all there are, until the process ends before it has made so many; else one of each
    name, from the first half of them.
    """
    half = calls[: len(calls) // 2]
    choose = random.Random(len(calls))
    for name in sorted(set(calls)):
        few = [choose.randint(1, max(1, half.count(name)))]
        yield name, itertools.count(1) if trial.soak else few


def _all_done(trial: Trial, status: int, log: Path, name: str, point: int) -> bool:
    """Whether the process came to its end before that call; else see that it died of it."""
    if trial.soak and status == 0:
        assert most_of(log, name) < point
        return True
    assert status == -signal.SIGKILL, f"not killed at {name} {point}"
    return False


@pytest.mark.slow
def test_each_system_call_of_a_batch(any_site: Site, trial: Trial) -> None:
    """Killed at any call that changes what is on disk, the next start finishes the batch."""
    site = any_site
    site.settings |= {"SCREENERS": "1"}
    points = CRASH_POINTS if site.database_url.startswith("sqlite") else (*CRASH_POINTS, *_TOLD)
    log = site.root / "calls"
    everything = _batch(0)
    site.drop(everything)
    site.call("run", "--once")  # seeds the models: what follows is a batch and nothing else
    everything |= _batch(1)
    site.drop(_batch(1))
    assert _end(site, strace(log, calls=points)) == 0
    numbers = itertools.count(2)
    for name, chosen in _points(trial, calls_in(log)):
        for point in chosen:
            new = _batch(next(numbers))
            everything |= new
            site.drop(new)
            inject = f"signal=SIGKILL:when={point}"
            status = _end(site, strace(log, calls=(name,), inject=inject))
            if _all_done(trial, status, log, name, point):
                break
            with trial.recovery():
                site.call("run", "--once")
            trial.rounds += 1
    trial.end(site, everything, rounds=0)


def _end(site: Site, wrapper: list[str]) -> int:
    return site.start("--once", wrapper=wrapper).wait()


def _feed(everything: dict[str, bytes], site: Site, count: int) -> None:
    new = films.small_batch(count, seed=len(everything))
    new |= {f"bad-{name}": films.truncated(new.pop(name), 60) for name in list(new)[: count // 8]}
    everything |= new
    site.drop(new)


def test_random_kills_under_load(any_site: Site, trial: Trial) -> None:
    """Killed at random instants, the worker or a screener, nothing is lost and nothing double."""
    site, chance = any_site, random.Random(5)
    everything: dict[str, bytes] = {}
    worker: subprocess.Popen[str] | None = None
    kills = {"worker": 0, "screener": 0}
    while sum(kills.values()) < trial.count(8, 250):  # on each of two databases
        if worker is None:
            _feed(everything, site, 24)
            goal = site.finished() + 1
            worker = site.start()
            with trial.recovery():
                site.wait_until_finished(goal)
        time.sleep(chance.uniform(0, 0.4))  # a random instant is the fault
        _feed(everything, site, 16)
        screeners = children(worker.pid)
        if screeners and chance.random() < 0.3:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(sorted(screeners)), signal.SIGKILL)
                kills["screener"] += 1
        else:
            assert site.stop(worker, signal.SIGKILL) == -signal.SIGKILL
            kills["worker"] += 1
            worker = None
    if worker is None:
        site.start()
    with trial.recovery():
        site.wait_until_finished(len(everything))
    assert min(kills.values()), kills
    trial.end(site, everything, rounds=sum(kills.values()))


@pytest.mark.slow
def test_screeners_killed_as_they_come_up(site: Site, trial: Trial) -> None:
    """Whichever is killed before the model serves, and whenever, the worker comes to serve."""
    chance = random.Random(7)
    everything: dict[str, bytes] = {}
    rounds = trial.count(5, 100)
    for _ in range(rounds):
        _feed(everything, site, 8)
        worker = site.start()
        screeners = wait_for(partial(children, worker.pid), every=0.002, what="a screener")
        time.sleep(chance.uniform(0.1, 0.7))  # a random instant is the fault
        os.kill(chance.choice(sorted(screeners)), signal.SIGKILL)
        with trial.recovery():
            site.wait_until_finished(len(everything))
        assert site.stop(worker) == 0
    trial.end(site, everything, rounds=rounds)


@pytest.fixture
def two_models(site: Site, shipped: Path) -> list[str]:
    """Return the versions of a registry that holds two sound packages."""
    site.call("check")
    site.call("run", "--once")
    packages.copy_package(shipped, site.models, version="other-1")
    return [shipped.name, "other-1"]


@pytest.mark.slow
def test_each_system_call_of_a_promotion(site: Site, trial: Trial, two_models: list[str]) -> None:
    """Killed in the middle of a swap, one of the two serves, and promoting again is enough."""
    everything: dict[str, bytes] = {}
    log = site.root / "calls"
    promote = ("models", "promote", "--why", "a trial")

    def call(version: str, wrapper: list[str]) -> int:
        command = [*wrapper, *site.command, *promote, version]
        return subprocess.run(
            command, env=site.environment, cwd=site.root, capture_output=True, check=False
        ).returncode

    assert call(two_models[1], strace(log, calls=CRASH_POINTS)) == 0
    numbers = itertools.count()
    for name, chosen in _points(trial, calls_in(log)):
        for point in chosen:
            number = next(numbers)
            following = two_models[number % 2]
            everything |= _batch(number)
            site.drop(_batch(number))
            inject = f"signal=SIGKILL:when={point}"
            status = call(following, strace(log, calls=(name,), inject=inject))
            if _all_done(trial, status, log, name, point):
                site.call("run", "--once")
                break
            assert Registry(site.models).champion() in two_models
            site.call("models", "verify")
            with trial.recovery():
                site.call("run", "--once")
                site.call(*promote, following)
            assert Registry(site.models).champion() == following
            trial.rounds += 1
    trial.end(site, everything, rounds=0)
