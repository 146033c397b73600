"""What systemd is told: ready when it is, alive when it is, and nothing when it is stuck.

On SQLite alone, because the loop that tells it is the same on Postgres.
"""

from __future__ import annotations

import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import films
import pytest
from driver import Site, wait_for
from servers import freeze, thaw
from trials import Trial

_WATCHDOG_SECONDS = 2.0


class Listener:
    """A socket in systemd's place, and what was said to it."""

    def __init__(self, path: Path) -> None:
        """Listen."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0)
        self._said: list[str] = []

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def said(self) -> list[str]:
        """Return all that was said."""
        with suppress(BlockingIOError):
            while True:
                self._said.append(self._socket.recv(4096).decode())
        return self._said

    def count(self, message: str) -> int:
        """Return how often something was said."""
        return self.said().count(message)


@pytest.fixture
def listener(site: Site) -> Iterator[Listener]:
    """Yield what listens in systemd's place."""
    with tempfile.TemporaryDirectory(prefix="lungwatch-") as folder:  # a socket's path is short
        path = Path(folder) / "notify"
        site.variables |= {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(int(_WATCHDOG_SECONDS * 1e6)),
        }
        site.settings |= {"SCREENERS": "1", "DATABASE_SECONDS": "1"}
        one = Listener(path)
        yield one
        one.close()


def _goes_on_pinging(listener: Listener, times: int = 3) -> None:
    before = listener.count("WATCHDOG=1")
    wait_for(lambda: listener.count("WATCHDOG=1") >= before + times, what="it pings")


def test_what_systemd_hears(site: Site, trial: Trial, listener: Listener) -> None:
    """READY when films are screened, pings idle and busy, none when stuck, STOPPING at the end."""
    everything = films.small_batch(30)
    worker = site.start()
    wait_for(lambda: listener.count("READY=1"), what="it is ready")
    wait_for(lambda: site.query("SELECT name FROM workers"), what="the tables are there")
    _goes_on_pinging(listener)
    site.drop(everything)
    site.wait_until_finished(len(everything))
    _goes_on_pinging(listener)
    freeze(worker.pid)
    listener.said()
    before = listener.count("WATCHDOG=1")
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 2 * _WATCHDOG_SECONDS, what="time passes")
    assert listener.count("WATCHDOG=1") == before, "a stuck loop must not look alive"
    with trial.recovery():
        thaw(worker.pid)
        _goes_on_pinging(listener, 1)
    assert site.stop(worker) == 0
    assert listener.count("READY=1") == listener.count("STOPPING=1") == 1
    trial.end(site, everything)


def test_alive_while_the_database_is_away(site: Site, trial: Trial, listener: Listener) -> None:
    """A database that is away is no reason to be ended: the pings go on."""
    site.start()
    wait_for(lambda: listener.count("READY=1"), what="it is ready")
    other = sqlite3.connect(site.root / "lungwatch.db", isolation_level=None, timeout=60)
    other.execute("BEGIN EXCLUSIVE")
    wait_for(lambda: '"event": "trouble"' in site.log(), what="it says so")
    _goes_on_pinging(listener)
    other.execute("ROLLBACK")
    other.close()
    everything = films.small_batch(3)
    site.drop(everything)
    with trial.recovery():
        site.wait_until_finished(len(everything))
    trial.end(site, everything)
