"""Runs commands of `lungwatch` in processes forked from one that has imported all of the worker.

A fresh interpreter imports for half a second before a command does anything, and tests run hundreds
of commands. A forked command is a process too, with the environment and the folder that it is
given.
"""

from __future__ import annotations

import gc
import os
import pickle
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

_REQUEST_BYTES = 1 << 17


def run(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run `lungwatch` with these arguments to its end, as `subprocess.run` would.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    reading, writing = os.pipe()
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        os.fdopen(reading) as told,
    ):
        request = pickle.dumps((list(arguments), dict(environment), str(folder)))
        socket.send_fds(_parent().requests, [request], [out.fileno(), err.fileno(), writing])
        os.close(writing)
        pid = int(told.readline())
        if not select.select([told], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), seconds)
        status = int(told.readline())
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(
            ["lungwatch", *arguments], status, out.read().decode(), err.read().decode()
        )


class _Parent:
    """The process that commands are forked from, started when the first one is run."""

    def __init__(self) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONFAULTHANDLER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End it, by asking it nothing more."""
        self.requests.close()
        self._process.wait()


_parent = cache(_Parent)


def end() -> None:
    """End the process that commands are forked from, if there is one."""
    if _parent.cache_info().currsize:
        _parent().close()
        _parent.cache_clear()


def _serve(requests: socket.socket) -> None:
    """Fork a process for each request until nobody can ask any more."""
    del sys.path[0]  # what tests share is none of the worker's business
    _import_worker()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _watch(request, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(request: bytes, descriptors: list[int]) -> None:
    """Run a command in one process more, and tell its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, telling = descriptors
    pid = os.fork()
    if pid:
        os.write(telling, f"{pid}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(telling, f"{status}\n".encode())
        return
    os.close(telling)
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    arguments, environment, folder = pickle.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["", *arguments]
    runpy.run_module("worker", run_name="__main__", alter_sys=True)


def _import_worker() -> None:
    """Import every module of the worker that can be, as if commands had used them."""
    import worker

    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        if module.name not in _NOT_IMPORTED:
            with suppress(ImportError):  # an optional package is not there
                import_module(module.name)
    for name in _LATE:
        import_module(name)


# Ray takes seconds, and starts threads, which a fork does not take along.
_NOT_IMPORTED = ("worker.__main__", "worker.archive.ray_cluster")
# What functions import when they are called.
_LATE = ("alembic.command", "sqlalchemy.dialects.postgresql.psycopg")

if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
