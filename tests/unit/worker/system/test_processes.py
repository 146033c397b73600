"""Which process a worker is, whether it runs, and how it is told to stop."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from worker.system import processes as process
from worker.system.processes import (
    StopSignals,
    Wakeup,
    boot_id,
    is_running,
    started_at,
    this_process,
)


def test_this_process_runs() -> None:
    """A worker finds itself running, under a name that says host and process."""
    me = this_process("ward-1")
    assert is_running(me)
    assert me.name.startswith("ward-1-")
    assert me.pid == os.getpid()
    assert me == this_process("ward-1")
    assert boot_id() == me.boot_id != ""


def test_another_of_the_same_number_is_not_it() -> None:
    """A process that got a dead worker's number, or another boot's, is not that worker."""
    me = this_process("ward-1")
    assert not is_running(replace(me, pid_started=me.pid_started - 1))
    assert not is_running(replace(me, boot_id="another boot"))


def test_one_that_is_hidden_from_us_runs_while_its_number_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the service, which sees no process but its own, finds a backfill that root started."""
    me = this_process("ward-1")
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    monkeypatch.setattr(process, "_state", lambda _: None)
    assert is_running(me)
    assert is_running(replace(me, pid=1)), "another user's"
    assert not is_running(replace(me, pid=child.pid))


def test_a_dead_process_does_not_run() -> None:
    """A process that ended does not run, also while nobody has asked how it ended."""
    child = subprocess.Popen(
        # A name with what could be taken for another field of /proc/PID/stat.
        [sys.executable, "-c", "open('/proc/self/comm', 'w').write('a) Z b'); input()"],
        stdin=subprocess.PIPE,
    )
    assert started_at(child.pid) is not None
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(child.pid) is None, "a zombie"
    child.wait()
    assert started_at(child.pid) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(number: signal.Signals) -> None:
    """A signal to stop calls the handler and wakes who waits; afterwards all is as before."""
    before = signal.getsignal(number)
    got: list[int] = []
    with Wakeup() as wakeup:
        with StopSignals(lambda signum, _frame: got.append(signum), wakeup.writer):
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert os.read(wakeup.reader, 100) == bytes([number, number])
    assert got == [number, number]
    assert signal.getsignal(number) is before


def ring_often(wakeup: Wakeup) -> None:
    """Ring more often than a pipe has room for."""
    for _ in range(100_000):
        wakeup.ring()


def test_waking_up_early() -> None:
    """A ring from any thread ends a wait, once; it does nothing before the start or after."""
    wakeup = Wakeup()
    wakeup.ring()
    with wakeup:
        waiting = select.poll()
        waiting.register(wakeup.reader, select.POLLIN)
        assert not waiting.poll(0)
        thread = threading.Thread(target=ring_often, args=(wakeup,))
        thread.start()
        assert waiting.poll(60_000)
        thread.join()  # a full pipe holds nobody up
        wakeup.drain()
        assert not waiting.poll(0)
    wakeup.ring()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(wakeup.reader)
