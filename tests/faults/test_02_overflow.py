"""Events lost: the worker is stopped while the kernel's queue of events runs over."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import films
from driver import Site, wait_for
from servers import freeze, thaw
from swaps import report
from trials import Trial

_OVERFLOW = 0x4000  # IN_Q_OVERFLOW
_WATCHED = 0x100 | 0x8  # made; closed after writing: no more than the worker watches
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _witness(folder: Path) -> Iterator[int]:
    """Watch a folder and read nothing, as the stopped worker does."""
    descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0
    try:
        assert _libc.inotify_add_watch(descriptor, os.fsencode(folder), _WATCHED) >= 0
        yield descriptor
    finally:
        os.close(descriptor)


def _ran_over(descriptor: int) -> bool:
    """Whether the queue of a watch ran over."""
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return False
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            if mask & _OVERFLOW:
                return True
            data = data[16 + length :]


def test_films_of_lost_events_are_found(site: Site, trial: Trial) -> None:
    """Films whose events were lost are found at once, though the next listing is an hour away."""
    site.settings |= {"SCAN_SECONDS": "3600"}
    everything = films.small_batch(trial.count(60, 20_000))
    worker = site.start()
    wait_for(lambda: report(site).get("events"), what="it watches")
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    with _witness(site.inbox) as witness:
        freeze(worker.pid)
        for _ in range(queue // 2 + 1):  # each time made and closed: two events, and no film
            (site.inbox / "upload.part").touch()
            (site.inbox / "upload.part").unlink()
        site.drop(everything)
        assert _ran_over(witness)
    with trial.recovery():
        thaw(worker.pid)
        site.wait_until_finished(len(everything))
    trial.end(site, everything)
