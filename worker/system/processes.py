"""This process among others: who it is, whether another still runs, and how it is told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_NOBODY = -1  # to be woken


@dataclass(frozen=True, kw_only=True)
class Process:
    """Which process of which boot of which host a worker is."""

    name: str  # of the worker; never used twice
    host: str
    boot_id: str
    pid: int
    pid_started: int  # clock ticks after boot


class StopSignals:
    """SIGTERM and SIGINT set a flag and wake the loop, for as long as the context lasts.

    SIGHUP does too where a terminal is behind us, which is what went away then. Else it is somebody
    who thinks that we read settings anew: it is passed over.
    """

    def __init__(
        self, handler: Callable[[int, FrameType | None], None], wake: int = _NOBODY
    ) -> None:
        """Call `handler` in the handler's place, and write a byte to `wake`, if there is one."""
        self._handler = handler
        self._wake = wake
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handler)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            handler = self._handler if os.isatty(0) else _pass_over
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, handler)
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wake_before)
        for number, before in self._before.items():
            signal.signal(number, before)


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield what says whether a signal has told this process to stop."""
    told: list[int] = []
    with StopSignals(lambda number, _: told.append(number)):
        yield lambda: bool(told)


def _pass_over(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Unlike SIG_IGN this is not handed on to what we start."""


def boot_id() -> str:
    """Return the kernel's name for this boot, or "" where it has none."""
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
    """Return what the kernel says of a process, or None where it is not there to be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def this_process(host: str) -> Process:
    """Return which process this is, with a name that no other ever has."""
    pid = os.getpid()
    started = started_at(pid) or 0
    boot = boot_id()
    name = f"{host}-{boot[:8] or 'boot'}-{pid}-{started}"
    return Process(name=name, host=host, boot_id=boot, pid=pid, pid_started=started)


def is_running(process: Process) -> bool:
    """Whether a worker of this host is still there: same boot, same process, not another's id.

    Of one that is hidden from us, as a service with `ProtectProc=` has those outside it, no more
    can be known than that its id is taken.
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
