"""A great many films waiting: the first is answered soon, memory is bounded, work is linear."""

from __future__ import annotations

import re
from pathlib import Path

import films
import pytest
from driver import Site, wait_for
from tracing import calls_in, strace
from trials import Trial

_LOOKS = ("newfstatat", "stat", "lstat", "statx", "openat", "renameat2", "read")


def _memory_mb(pid: int) -> float:
    """Return the most memory that a process has had so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


@pytest.mark.slow
def test_a_backlog(site: Site, trial: Trial) -> None:
    """First answers come while nearly all still wait, and memory does not follow the backlog."""
    everything = films.small_batch(trial.count(1500, 100_000))
    site.drop(everything)
    worker = site.start()
    with trial.recovery():
        site.wait_until_finished(1)
    assert site.finished() < len(everything) / 2
    site.wait_until_finished(len(everything) // 4)
    early = _memory_mb(worker.pid)
    late = early

    def done() -> bool:
        nonlocal late
        late = max(late, _memory_mb(worker.pid))
        return site.finished() >= len(everything)

    wait_for(done, seconds=3600, every=0.5, what="all done")
    assert late - early < 40, "MiB, whatever the backlog"
    trial.end(site, everything)


def _calls_per_film(site: Site, count: int, seed: int) -> float:
    new = films.small_batch(count, seed=seed)
    site.drop(new)
    log = site.root / f"calls-{count}"
    site.start("--once", wrapper=strace(log, calls=_LOOKS)).wait()
    return len(calls_in(log)) / count


@pytest.mark.slow
def test_work_for_a_film_does_not_grow_with_the_backlog(site: Site, trial: Trial) -> None:
    """Four times the backlog takes no more system calls a film."""
    few = trial.count(150, 2000)
    site.settings |= {"SCREENERS": "1"}
    small = _calls_per_film(site, few, seed=1)
    large = _calls_per_film(site, 4 * few, seed=2)
    assert large <= small
    everything = films.small_batch(few, seed=1) | films.small_batch(4 * few, seed=2)
    trial.end(site, everything)
