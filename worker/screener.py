"""A screener: a child process that reads, hashes, decodes and predicts, one film at a time.

Run by the pool as `python -m worker.screener FD`, with a socket to its parent as its only way
out. Messages are JSON, never pickles: bytes from outside are decoded here, and a screener that
they took over must have nothing to say that its parent would run.

    parent -> child   Setup, then any number of Job; Answer to a Hashed
    child -> parent   Ready or Unfit, then for each Job: Hashed (if asked for), then one Result
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import resource
import signal
import stat
import sys
from collections import deque
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self, get_args

from worker.errors import FilmRefused, ModelPackageError, RefusalCode
from worker.inbox import bytes_of, sighting_of
from worker.model import Model, load
from worker.preprocessing import Limits, read_film, too_many_bytes
from worker.records import Sighting

_PR_SET_PDEATHSIG = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
ResultKind = Literal["predicted", "skipped", "refused", "lost", "unreadable", "out_of_memory"]


class Message:
    """A message that is JSON on the wire, tagged with its class's name."""

    def send(self, connection: Connection) -> None:
        """Write it to a connection."""
        connection.send_bytes(json.dumps([type(self).__name__, asdict(self)]).encode())  # type: ignore[call-overload]

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """Make one from what JSON gives, with exactly the fields it has."""
        expected = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if values.keys() != expected:
            raise ValueError(f"{cls.__name__} with fields {sorted(values)}")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Setup(Message):
    """What a screener needs to know once."""

    inbox: str
    package: str  # folder of the model package
    limits: dict[str, Any]
    memory_mb: int  # beyond what code and model take
    predict_seconds: float = 0.25  # of processor time, that the network may take for a film


@dataclass(frozen=True, kw_only=True)
class Job(Message):
    """One film to screen."""

    scan_id: int
    name: str
    size_bytes: int
    mtime_ns: int
    inode: int
    ask: bool  # its bytes may have been seen: send Hashed and wait for the Answer

    @property
    def sighting(self) -> Sighting:
        """What the file must still be."""
        return Sighting(
            name=self.name,
            size_bytes=self.size_bytes,
            mtime_ns=self.mtime_ns,
            inode=self.inode,
        )


@dataclass(frozen=True, kw_only=True)
class Answer(Message):
    """Whether to predict: not if this model has seen the same bytes."""

    scan_id: int
    predict: bool


@dataclass(frozen=True, kw_only=True)
class Ready(Message):
    """The model is loaded and checked; jobs may come."""

    model_version: str


@dataclass(frozen=True, kw_only=True)
class Unfit(Message):
    """The model package must not serve."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Hashed(Message):
    """The digest of a film's bytes, sent before it is predicted."""

    scan_id: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Result(Message):
    """How a job ended."""

    scan_id: int
    kind: ResultKind
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    contrast: float | None = None
    logit: float | None = None  # if predicted
    code: str | None = None  # if refused
    sentence: str | None = None  # if refused, or why it was unreadable
    measured: str | None = None
    limit: str | None = None

    def __post_init__(self) -> None:
        """Believe nothing that could not be: the child may be in the hands of what it decoded."""
        if self.kind not in get_args(ResultKind):
            raise ValueError(f"no way for a job to end: {self.kind!r}")
        texts = (self.sha256, self.code, self.sentence, self.measured, self.limit)
        numbers = (self.width, self.height, self.contrast, self.logit)
        if not all(isinstance(one, str | None) for one in texts) or not all(
            isinstance(one, int | float | None) for one in numbers
        ):
            raise ValueError("a result of wrong types")
        if self.kind == "refused":
            RefusalCode.of(self.code or "")
        if self.kind in ("predicted", "skipped") and not _SHA256.fullmatch(self.sha256 or ""):
            raise ValueError("a result without a digest")


_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Setup, Job, Answer, Ready, Unfit, Hashed, Result)
}


def receive(connection: Connection) -> Message:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
        ValueError: it is not a message.
    """
    try:
        kind, values = json.loads(connection.recv_bytes(1 << 20))
        return _KINDS[kind].build(values)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("not a message") from error


class _Lost(Exception):
    """The file is not the one that was sighted."""


class Screener:
    """The loop of the child. Holds the model and the connection."""

    def __init__(self, connection: Connection, setup: Setup, model: Model) -> None:
        """Serve jobs that come over `connection`."""
        self._connection = connection
        self._inbox = os.fsencode(setup.inbox)
        self._limits = Limits(**setup.limits)
        self._model = model
        self._jobs: deque[Job] = deque()

    def run(self) -> None:
        """Screen until the parent hangs up."""
        while True:
            job = self._jobs.popleft() if self._jobs else receive(self._connection)
            if isinstance(job, Job):  # or an Answer that came after its film was refused
                self._screen(job).send(self._connection)

    def _screen(self, job: Job) -> Result:
        sha256: str | None = None
        try:
            data = self._read(job)
            sha256 = hashlib.sha256(data).hexdigest()
            if job.ask:
                Hashed(scan_id=job.scan_id, sha256=sha256).send(self._connection)
            size = self._model.manifest
            film = read_film(data, height=size.height, width=size.width, limits=self._limits)
            predict = not job.ask or self._answer(job.scan_id)
            logit = self._model.predict(film.pixels).logit if predict else None
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
            kind="predicted" if predict else "skipped",
            sha256=sha256,
            width=film.width,
            height=film.height,
            contrast=film.contrast,
            logit=logit,
        )

    def _read(self, job: Job) -> bytes:
        """Read the sighted file whole, and nothing else: no link, no device, no other file."""
        path = os.path.join(self._inbox, bytes_of(job.name))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
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

    def _answer(self, scan_id: int) -> bool:
        """Wait for the parent's answer; put jobs that come first aside."""
        while True:
            message = receive(self._connection)
            if isinstance(message, Answer) and message.scan_id == scan_id:
                return message.predict
            if isinstance(message, Job):
                self._jobs.append(message)


def _named(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "EIO")


def _limit_memory(memory_mb: int) -> None:
    """Bound the address space at what is taken now plus so many MiB."""
    taken_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = taken_pages * resource.getpagesize() + memory_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(descriptor: int) -> None:
    """Serve the parent at the other end of a socket until it hangs up."""
    # The parent decides when to stop: a Ctrl-C in the terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        setup = receive(connection)
        if not isinstance(setup, Setup):
            raise ValueError("the first message must be Setup")  # noqa: TRY004 - a wrong value
        try:
            model = load(Path(setup.package), predict_seconds=setup.predict_seconds)
        except ModelPackageError as error:
            Unfit(why=str(error)).send(connection)
            return
        _limit_memory(setup.memory_mb)
        Ready(model_version=model.manifest.version).send(connection)
        Screener(connection, setup, model).run()


def refusal_from(result: Result) -> FilmRefused:
    """Return the refusal that a result tells of.

    Raises:
        ValueError: its code is none of ours.
    """
    return FilmRefused(
        RefusalCode.of(result.code or ""),
        result.sentence or "",
        measured=result.measured,
        limit=result.limit,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
