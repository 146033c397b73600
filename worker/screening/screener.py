"""A screener: a child process that reads, hashes, decodes and predicts one film at a time.

The pool runs it as `python -m worker.screening.screener FD`. It talks only to its parent, over a
socket: see `ipc`. Once its model is loaded it restricts itself: see `sandbox`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import resource
import signal
import socket
import stat
import sys
import time
from pathlib import Path

from worker.errors import FilmRefused, ModelPackageError
from worker.imaging.preprocessing import FilmLimits, read_film, too_many_bytes, warm_up
from worker.inbox.folders import sighting_of
from worker.model.runtime import Model, load
from worker.screening import sandbox
from worker.screening.ipc import Channel, Job, Ready, Result, Setup, Unfit
from worker.system.filenames import bytes_of

_PR_SET_PDEATHSIG = 1
_FROZEN = 2.0  # times the limit for a film; by then the parent should have ended it


class _Lost(Exception):
    """The file is not the one that was seen."""


class Screener:
    """The loop of the child process, with its model and channel."""

    def __init__(self, channel: Channel, setup: Setup, model: Model) -> None:
        """Serve jobs that arrive over `channel`."""
        self._channel = channel
        self._inbox = os.fsencode(setup.inbox)
        self._limits = FilmLimits(**setup.limits)
        self._screen_seconds = setup.screen_seconds
        self._model = model

    def run(self) -> None:
        """Screen until the parent closes the channel."""
        while True:
            job = self._channel.receive()
            if isinstance(job, Job):
                sandbox.limit_processor_time(_FROZEN * self._screen_seconds)
                self._channel.send(self._screen(job))

    def _screen(self, job: Job) -> Result:
        sha256: str | None = None
        began = time.perf_counter()
        try:
            data = self._read(job)
            sha256 = hashlib.sha256(data).hexdigest()
            manifest = self._model.manifest
            film = read_film(
                data,
                height=manifest.height,
                width=manifest.width,
                version=manifest.preprocessing_version,
                limits=self._limits,
            )
            prepared = time.perf_counter()
            score = self._model.score(film.pixels)
        except FilmRefused as refusal:
            return Result(
                scan_id=job.scan_id,
                kind="refused",
                sha256=sha256,
                code=refusal.code.value,
                sentence=refusal.sentence,
                measured=refusal.measured,
                limit=refusal.limit,
            )
        except _Lost:
            return Result(scan_id=job.scan_id, kind="lost")
        except MemoryError:
            return Result(scan_id=job.scan_id, kind="out_of_memory", sha256=sha256)
        except OSError as error:
            return Result(scan_id=job.scan_id, kind="unreadable", sentence=_named(error))
        return Result(
            scan_id=job.scan_id,
            kind="predicted",
            sha256=sha256,
            width=film.width,
            height=film.height,
            contrast=film.contrast,
            encoding=film.encoding,
            logit=score.logit,
            strangeness=score.strangeness,
            prepare_seconds=prepared - began,
            predict_seconds=time.perf_counter() - prepared,
        )

    def _read(self, job: Job) -> bytes:
        """Read the claimed file completely, never a link, a device or another file."""
        path = os.path.join(self._inbox, bytes_of(job.name))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            # The sandbox reports a folder of this name as a lack of permission.
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO) or os.path.isdir(path):
                raise _Lost from error
            raise
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode) or sighting_of(job.name, before) != job.sighting:
                raise _Lost
            if before.st_size > self._limits.max_bytes:
                raise too_many_bytes(before.st_size, self._limits)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(before.st_size)
            if len(data) != before.st_size or sighting_of(job.name, os.fstat(descriptor)) != (
                job.sighting
            ):
                raise _Lost
        finally:
            os.close(descriptor)
        return data


def _named(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")


def _limit_memory(memory_mb: int) -> None:
    """Limit the address space to the present size plus `memory_mb` MiB."""
    taken_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = taken_pages * resource.getpagesize() + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(descriptor: int) -> None:
    """Serve the parent at the other end of a socket until it closes it."""
    # The parent decides when to stop. Ctrl-C, a closed terminal and a `timeout` around the worker
    # signal both, and a film in hand would count as one that crashed its screener.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    channel = Channel(socket.socket(fileno=descriptor))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup = channel.receive()
        if not isinstance(setup, Setup):
            raise ValueError("the first message must be Setup")  # noqa: TRY004 - the value is wrong
        try:
            model = load(Path(setup.package), predict_seconds=setup.predict_seconds)
        except ModelPackageError as error:
            channel.send(Unfit(why=str(error)))
            return
        warm_up()
        _limit_memory(setup.memory_mb)
        missing = sandbox.enclose(Path(setup.inbox))
        channel.send(Ready(model_version=model.manifest.version, unfenced="; ".join(missing)))
        Screener(channel, setup, model).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
