"""Processes cannot be started for a while: what runs already goes on, and it is made up for later.

The machine's limits are not the tests' to set. Here the interpreter that screeners are started with
is moved away, which the worker learns of as it does of a limit: by an error in place of a process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from driver import Site, wait_for
from films import small_batch
from packages import copy_package
from swaps import children, refuses, report, wait_until_serving

from worker.model.registry import Registry


class Interpreter:
    """A Python with all that ours has, which can be moved away and back."""

    def __init__(self, folder: Path) -> None:
        """Make it in a folder, of links to ours."""
        ours = Path(sys.prefix)
        (folder / "bin").mkdir(parents=True)
        if (ours / "pyvenv.cfg").exists():
            shutil.copy(ours / "pyvenv.cfg", folder)
        (folder / "lib").symlink_to(ours / "lib")
        self._path = folder / "bin" / "python"
        self._away = folder / "bin" / "away"
        self._path.symlink_to(Path(sys.executable).resolve())

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What runs a command of ours by it, in place of the interpreter that it names."""
        return ("sh", "-c", 'shift; exec "$0" "$@"', str(self._path))

    def leave(self) -> None:
        """Have no process started by it from now on."""
        self._path.rename(self._away)

    def come_back(self) -> None:
        """Have them started again."""
        self._away.rename(self._path)


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """Make one that is there."""
    return Interpreter(tmp_path / "interpreter")


@pytest.fixture
def site(tmp_path: Path, shipped: Path) -> Iterator[Site]:
    """A place for two screeners, whose champion is `steady`, and where `newer` may follow it."""
    place = Site(tmp_path, settings={"SCREENERS": "2"})
    for version in ("steady", "newer"):
        copy_package(shipped, place.models, version=version)
    Registry(place.models).promote("steady")
    yield place
    place.end()


def _said(site: Site, event: str) -> list[dict[str, str]]:
    lines = [json.loads(line) for line in site.log().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.slow
def test_a_promotion(site: Site, interpreter: Interpreter) -> None:
    """Without screeners for the new model the one before serves on; with them, the new one.

    Why it does not serve is said once, and by `status` for as long as it is so.
    """
    worker = site.start(wrapper=interpreter.wrapper)
    wait_until_serving(site, "steady")
    at_work = children(worker.pid)
    interpreter.leave()
    Registry(site.models).promote("newer")
    wait_for(partial(refuses, site, "newer: a screener cannot be started"))
    films = small_batch(4)
    site.drop(films)
    site.wait_until_finished(len(films))
    assert {row["model_version"] for row in site.results()} == {"steady"}
    assert children(worker.pid) == at_work
    assert report(site)["trouble"] is None
    assert "cannot be started" in site.call("status", status=1).stdout
    interpreter.come_back()
    wait_until_serving(site, "newer")
    wait_for(lambda: len(children(worker.pid)) == 2, what="only the new version's screeners")
    site.call("status", status=0)
    assert site.stop(worker) == 0
    site.check_invariants(films)
    assert len(_said(site, "model refused")) == 1
    assert not _said(site, "trouble")


@pytest.mark.slow
def test_a_screener_that_ended(site: Site, interpreter: Interpreter) -> None:
    """One that cannot be replaced leaves the other at work, and is replaced when it can be."""
    worker = site.start(wrapper=interpreter.wrapper)
    wait_until_serving(site, "steady")
    interpreter.leave()
    gone, left = sorted(children(worker.pid))
    os.kill(gone, signal.SIGKILL)
    wait_for(lambda: _said(site, "screeners lacking"), what="it says so")
    films = small_batch(4)
    site.drop(films)
    site.wait_until_finished(len(films))
    assert children(worker.pid) == {left}
    interpreter.come_back()
    wait_for(lambda: _said(site, "screeners replaced"), what="it says so")
    wait_for(lambda: report(site)["screeners"] == 2, what="two screeners")
    assert site.stop(worker) == 0
    site.check_invariants(films)
    assert [len(_said(site, event)) for event in ("screeners lacking", "trouble")] == [1, 0]
    assert "cannot be started" in _said(site, "screeners lacking")[0]["why"]
