"""A night beside the worker, killed in the middle.

At full length it is `tests/benchmarks/soak_nights.py`, which measures the worker's 95th percentile
with a night under way and without: on a machine that does other things a test of it would tell
nothing.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import films
import pytest
from driver import Site, wait_for
from trials import Trial

from worker.errors import DatabaseTrouble
from worker.model.registry import Registry


def _begun(site: Site, nights: int) -> bool:
    with suppress(DatabaseTrouble):  # a night has little processor time, and may hold locks long
        (row,) = site.query("SELECT count(*) AS n FROM training_runs")
        return bool(row["n"] >= nights)
    return False


@pytest.mark.slow
def test_a_night_killed_beside_the_worker(site: Site, trial: Trial) -> None:
    """Killed at any moment, a night leaves the model that serves, and no film waits for it."""
    chance = random.Random(15)
    site.settings |= {"SCREENERS": "1", "MIN_TEST_FILMS": "1"}
    for label, opacity in (("NORMAL", 0.0), ("PNEUMONIA", 1.0)):
        (site.root / "films" / label).mkdir(parents=True)
        for number in range(40):
            seed = 2 * number + (opacity > 0)  # no film is a copy of another
            picture = films.draw(seed, width=160, height=128, opacity=opacity)
            path = site.root / "films" / label / f"{label}-{number}.jpeg"
            path.write_bytes(films.jpeg(picture, comment=label.encode()))
    worker = site.start()
    everything = films.small_batch(4)
    site.drop(everything)
    site.wait_until_finished(len(everything))
    champion = Registry(site.models).champion()
    for number in range(1, 1 + trial.count(1, 20)):
        night = subprocess.Popen(
            [sys.executable, "-m", "training.retrain", "--data", site.root / "films"],
            env=site.environment,
            cwd=site.root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(partial(_begun, site, number), what="the night has begun")
            new = films.small_batch(20, seed=number)
            everything |= new
            site.drop(new)
            time.sleep(chance.uniform(0, 5 if trial.soak else 0.5))  # a random instant
            assert night.poll() is None, "it must die in the middle"
        finally:
            night.send_signal(signal.SIGKILL)
            night.wait()
        with trial.recovery():
            site.wait_until_finished(len(everything))
        trial.rounds += 1
        assert Registry(site.models).champion() == champion
    site.call("models", "verify", str(champion))
    assert worker.poll() is None
    trial.end(site, everything, rounds=0)
