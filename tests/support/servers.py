"""A Postgres of a test's own, to be stopped, killed and frozen."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from databases import Postgres, running_postgres
from driver import wait_for
from swaps import children


class OwnPostgres:
    """A server that no other test uses. What it has committed outlives its being killed."""

    def __init__(self, running: Postgres, server: Any) -> None:
        """Take over a running server."""
        self._running = running
        self._server = server
        running.execute("ALTER SYSTEM SET fsync = off")  # a kill, unlike a power cut, loses none
        running.execute("SELECT pg_reload_conf()")
        self._name = ""

    def fresh(self) -> str:
        """Make a fresh database, and return where it is."""
        self._name = self._running.migrated()
        return self._running.url(self._name)

    def stop(self) -> None:
        """Stop it as its administrator does; nobody can connect."""
        self._server.stop()

    def start(self) -> None:
        """Start it again."""
        # A process that is dead, and that nobody has waited for, is taken for a server.
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._server.pgdata / lock).unlink(missing_ok=True)
        self._server.start()

    def kill(self) -> None:
        """End all of its processes at once."""
        processes = self._processes()
        for pid in processes:
            _signal(pid, signal.SIGKILL)
        for pid in processes:
            wait_for(partial(_gone, pid), what="Postgres is gone")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze all of its processes: connections stand, and nothing answers."""
        for pid in self._processes():
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self._processes():
                _signal(pid, signal.SIGCONT)

    def end_connections(self) -> int:
        """End every connection to the latest database, and return how many there were."""
        with psycopg.connect(
            host=str(self._server.pgdata), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (self._name,),
            )
            return len(ended.fetchall())

    def _processes(self) -> list[int]:
        first = int(self._server.get_pid())
        return [first, *children(first)]


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Run one, and clear it away."""
    with running_postgres() as (running, server):
        yield OwnPostgres(running, server)


def state(pid: int) -> str:
    """Return the letter that the kernel gives for how a process stands; "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def _gone(pid: int) -> bool:
    return state(pid) in ("", "Z")


def freeze(pid: int) -> None:
    """Stop a process, and see that it is stopped."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: state(pid) == "T", what="the process is stopped")


def thaw(pid: int) -> None:
    """Let a stopped process go on."""
    os.kill(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
