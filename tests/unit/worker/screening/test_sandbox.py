"""The fence, in a real screener whose decoder is in the hands of what it decodes."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import films
import pytest
from pools import Ward

from worker.imaging.preprocessing import FilmLimits
from worker.inbox.folders import Inbox
from worker.screening.ipc import Channel, Job, Message, Ready, Result, Setup
from worker.screening.pool import _ENVIRONMENT
from worker.system.folders import Folders

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="this machine is not Linux")

# A screener as it is, but that what decodes a film does instead what the film says, in Python.
TAKEN_OVER = """
import sys
from worker.screening import screener
from worker.errors import FilmRefused, RefusalCode

def taken_over(data, **_):
    try:
        found = repr(eval(data.partition(b"\\0")[0].decode(), globals()))
    except Exception as error:
        found = f"{type(error).__name__} {getattr(error, 'errno', None)}"
    raise FilmRefused(RefusalCode.DAMAGED, found)

import ctypes, multiprocessing, os, socket, subprocess, threading
screener.read_film = taken_over
screener.main(int(sys.argv[1]))
"""


class TakenOver:
    """The parent of such a screener."""

    def __init__(self, folder: Path, shipped: Path, *, away: bool = False) -> None:
        """Start it on an inbox of its own, or on one that is away."""
        self.inbox = folder / "inbox"
        if not away:
            self.inbox.mkdir()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(60)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", TAKEN_OVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
            )
        self.channel = Channel(ours)
        self.channel.send(
            Setup(
                inbox=str(self.inbox),
                package=str(shipped),
                limits=asdict(FilmLimits()),
                memory_mb=768,
                predict_seconds=5.0,
            )
        )
        self.ready = self.channel.receive()
        self._scans = 0

    def evaluate(self, expression: str) -> str:
        """Have it evaluate this, and return what came of it: a value, or an error and its errno."""
        answer = self.screen("film.jpg", expression.encode() + b"\0")
        assert isinstance(answer, Result)
        return answer.sentence or ""

    def screen(self, name: str, data: bytes) -> Message | None:
        """Have it screen a file of these bytes."""
        (self.inbox / name).write_bytes(data)
        seen = Inbox(Folders(inbox=self.inbox, archive=self.inbox, refused=self.inbox)).look(name)
        assert seen is not None
        self._scans += 1
        self.channel.send(Job(scan_id=self._scans, **asdict(seen)))
        return self.channel.receive()


@pytest.fixture(scope="module")
def taken_over(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Iterator[TakenOver]:
    """Yield a screener that does what its films say, behind its fence."""
    one = TakenOver(tmp_path_factory.mktemp("fence"), shipped)
    assert isinstance(one.ready, Ready)
    if one.ready.unfenced:
        pytest.skip(f"this machine lacks a wall: {one.ready.unfenced}")
    yield one
    one.channel.close()
    one.process.wait()


def test_what_it_evaluates_comes_back(taken_over: TakenOver) -> None:
    """Else all that follows would prove nothing: it does run what a film says."""
    assert taken_over.evaluate("6 * 7") == "42"


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "socket.socketpair()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.kill(os.getppid(), 0)",
        "os.memfd_create('program')",
        "os.pidfd_open(os.getppid())",
        "os.mkdir('folder')",
        "os.chmod('/tmp', 0o777)",
        "os.setuid(12345)",
    ],
)
def test_it_may_not(taken_over: TakenOver, attempt: str) -> None:
    """No network, no program, no word to another process, nothing changed on any disk."""
    assert taken_over.evaluate(attempt) == f"PermissionError {errno.EPERM}"


def test_it_starts_no_thread(taken_over: TakenOver) -> None:
    """One film, one thread: the address space's limit counts on it."""
    answer = taken_over.evaluate("threading.Thread(target=print).start()")
    assert answer.startswith("RuntimeError")


def test_it_reads_no_database(taken_over: TakenOver, tmp_path: Path) -> None:
    """What lies outside the inbox cannot be read: database, settings, archive, other processes."""
    database = tmp_path / "lungwatch.db"
    database.write_bytes(b"rows")
    for path in (database, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
        assert path.read_bytes() is not None
        answer = taken_over.evaluate(f"open({str(path)!r}, 'rb').read()")
        assert answer == f"PermissionError {errno.EACCES}", path
    assert taken_over.evaluate(f"os.listdir({str(tmp_path)!r})").startswith("PermissionError")


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "xb"])
def test_it_writes_no_file(taken_over: TakenOver, tmp_path: Path, mode: str) -> None:
    """Neither outside nor in the inbox, neither a new file nor one that is there."""
    (taken_over.inbox / "other.jpg").write_bytes(b"another film")
    for path in (tmp_path / "new", taken_over.inbox / "other.jpg", taken_over.inbox / "new"):
        answer = taken_over.evaluate(f"open({str(path)!r}, {mode!r}).write(b'x')")
        assert answer.startswith("PermissionError"), path
    for attempt in ("os.unlink({})", "os.rename({}, {} + '-')", "os.truncate({}, 0)"):
        call = attempt.replace("{}", repr(str(taken_over.inbox / "other.jpg")))
        assert taken_over.evaluate(call) == f"PermissionError {errno.EPERM}"
    assert (taken_over.inbox / "other.jpg").read_bytes() == b"another film"
    assert not (tmp_path / "new").exists()


def test_it_lifts_no_limit(taken_over: TakenOver) -> None:
    """Its limits stand, and those of others are not its to set."""
    for limit in ("RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_AS"):
        soft, hard = json.loads(
            taken_over.evaluate(f"list(screener.resource.getrlimit(screener.resource.{limit}))")
        )
        assert soft == hard >= 0
    prlimit = "screener.resource.prlimit(os.getppid(), screener.resource.RLIMIT_CPU)"
    assert taken_over.evaluate(prlimit) == f"PermissionError {errno.EPERM}"


def test_its_processor_time_ends(tmp_path: Path, shipped: Path) -> None:
    """A film that computes for ever ends by the kernel's hand, its parent frozen or not."""
    one = TakenOver(tmp_path, shipped)
    limits = "screener.resource.getrlimit(screener.resource.RLIMIT_CPU)[0]"
    granted = int(one.evaluate(limits))
    assert 0 < granted < 120
    # The same, with a second left of it: no test waits for two times twenty.
    one.evaluate("screener.sandbox.limit_processor_time(0.1)")
    with pytest.raises(EOFError):
        one.screen(
            "film.jpg",
            b"[screener.sandbox.limit_processor_time(0)] and [None for _ in iter(int, 1)]\0",
        )
    assert one.process.wait() < 0
    one.channel.close()


def test_nothing_of_our_surroundings_reaches_it(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment holds no setting and no secret, and its descriptors are its own."""
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", "postgresql://user:secret@host/films")
    ward = Ward(tmp_path)
    ward.serve(shipped)
    (screener,) = ward.pool._screeners
    environment = Path(f"/proc/{screener.process.pid}/environ").read_bytes()
    assert b"LUNGWATCH" not in environment
    assert b"secret" not in environment
    opened = [str(link.readlink()) for link in Path(f"/proc/{screener.process.pid}/fd").iterdir()]
    assert not [path for path in opened if path.startswith(str(tmp_path))]
    ward.pool.close()


def test_an_inbox_that_is_away_opens_nothing(
    taken_over: TakenOver, tmp_path: Path, shipped: Path
) -> None:
    """A screener started meanwhile reads nothing at all, until it is replaced."""
    one = TakenOver(tmp_path, shipped, away=True)
    assert one.ready == taken_over.ready, "fenced in all the same"
    one.inbox.mkdir()
    answer = one.screen("film.jpg", b"open('/etc/passwd').read()\0")
    assert isinstance(answer, Result)
    assert (answer.kind, answer.sentence) == ("unreadable", "EACCES")
    one.channel.close()
    one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_it_to_its_parent_when_to_stop(
    taken_over: TakenOver, number: signal.Signals
) -> None:
    """A terminal that closes, or `timeout`, tells a whole group; the film is no culprit."""
    taken_over.process.send_signal(number)
    assert taken_over.evaluate("6 * 7") == "42"


def test_an_inbox_that_was_mounted_anew(tmp_path: Path, shipped: Path) -> None:
    """Screeners fenced into a folder that is gone are replaced: no film waits for ever."""
    ward = Ward(tmp_path)
    ward.serve(shipped)
    ward.inbox.rename(tmp_path / "before")
    ward.inbox.mkdir()
    ward.drop("film.jpg", films.jpeg(films.draw(1)))
    said = [ward.screen(ward.claim("film.jpg")).result.kind for _ in range(2)]
    assert said[-1] == "predicted"
    assert ward.pool.close() == []
