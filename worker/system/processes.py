"""This process: its identity, whether another process still runs, stop signals, and waking up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

_NO_DESCRIPTOR = -1


@dataclass(frozen=True, kw_only=True)
class Process:
    """The identity of a worker's process: host, boot and process id."""

    name: str  # of the worker; unique
    host: str
    boot_id: str
    pid: int
    pid_started: int  # clock ticks after boot


class Wakeup:
    """A pipe that ends a wait for descriptors early, for as long as the context lasts.

    Any thread may ring it, at any time.
    """

    def __init__(self) -> None:
        """Open nothing yet."""
        self._lock = threading.Lock()
        self._open = False

    def __enter__(self) -> Self:
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # the closed number may be reused: no thread may write to it
            self._open = False
            os.close(self.reader)
            os.close(self.writer)

    def ring(self) -> None:
        """Make `reader` readable."""
        with self._lock, suppress(BlockingIOError):  # full: it is readable
            if self._open:
                os.write(self.writer, b"w")

    def drain(self) -> None:
        """Make `reader` unreadable until the next ring."""
        with suppress(BlockingIOError):
            while os.read(self.reader, 4096):
                pass


class StopSignals:
    """A context in which SIGTERM and SIGINT call a handler and wake the loop.

    SIGHUP does the same if standard input is a terminal: the terminal was closed. Otherwise SIGHUP
    is ignored, because settings are not reloaded.
    """

    def __init__(
        self, handler: Callable[[int, FrameType | None], None], wake: int = _NO_DESCRIPTOR
    ) -> None:
        """Set the handler, and the descriptor to write a byte to on each signal, if any."""
        self._handler = handler
        self._wake = wake
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handler)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # set by nohup
            handler = self._handler if os.isatty(0) else _pass_over
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, handler)
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wake_before)
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def stop_flag() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal has asked this process to stop."""
    received: list[int] = []
    with StopSignals(lambda number, _: received.append(number)):
        yield lambda: bool(received)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Unlike SIG_IGN, this is not inherited by child processes."""


def boot_id() -> str:
    """Return the kernel's id of this boot, or "" if it has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def started_at(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot, or None if it does not run."""
    fields = _state(pid)
    return int(fields[19]) if fields and fields[0] not in (b"Z", b"X") else None


def _state(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat after the name, or None if it cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def this_process(host: str) -> Process:
    """Return the identity of this process, with a unique name."""
    pid = os.getpid()
    started = started_at(pid) or 0
    boot = boot_id()
    name = f"{host}-{boot[:8] or 'boot'}-{pid}-{started}"
    return Process(name=name, host=host, boot_id=boot, pid=pid, pid_started=started)


def is_running(process: Process) -> bool:
    """Whether a worker of this host still runs: same boot, same process, id not reused.

    A process that is hidden from us, as for a service with `ProtectProc=`, counts as running if its
    id is taken.
    """
    if process.boot_id != boot_id():
        return False
    if _state(process.pid) is None:
        return _is_taken(process.pid)
    return started_at(process.pid) == process.pid_started


def _is_taken(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
