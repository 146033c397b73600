"""What a screener and its parent say to each other, and how it travels.

Messages are JSON, never pickles: bytes from outside are decoded in the screener, and one that they
took over must have nothing to say that its parent would run, or trip over.

    parent -> child   Setup, then any number of Job
    child -> parent   Ready or Unfit, then for each Job one Result
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from worker.errors import FilmRefused, RefusalCode
from worker.types import Facts, Sighting

_LARGEST = 1 << 16  # bytes of a message
_LONGEST_TEXT = 2000  # letters
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENCODING = re.compile(r"[0-9a-f]{8}")
ResultKind = Literal["predicted", "refused", "lost", "unreadable", "out_of_memory"]


class Message:
    """A message that is JSON on the wire, tagged with its class's name."""

    def encode(self) -> bytes:
        """Write it as JSON."""
        return json.dumps([type(self).__name__, vars(self)]).encode()


@dataclass(frozen=True, kw_only=True)
class Setup(Message):
    """What a screener needs to know once."""

    inbox: str
    package: str  # folder of the model package
    limits: dict[str, Any]
    memory_mb: int  # beyond what code and model take
    predict_seconds: float = 0.25  # of processor time, that the network may take for a film
    screen_seconds: float = 20.0  # for a film, after which the parent ends the screener


@dataclass(frozen=True, kw_only=True)
class Job(Message):
    """One film to screen."""

    scan_id: int
    name: str
    size_bytes: int
    mtime_ns: int
    inode: int

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
class Ready(Message):
    """The model is loaded and checked; jobs may come."""

    model_version: str
    unfenced: str = ""  # what of the fence could not be put up

    def __post_init__(self) -> None:
        """Believe nothing that could not be."""
        if not _is_plain(self.unfenced):
            raise ValueError("other than plain words")


@dataclass(frozen=True, kw_only=True)
class Unfit(Message):
    """The model package must not serve."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Result(Message):
    """How a job ended."""

    scan_id: int
    kind: ResultKind
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    contrast: float | None = None
    encoding: str | None = None
    logit: float | None = None  # if predicted
    strangeness: float | None = None  # the same, if the package has limits of the familiar
    # To read, check, decode and resize it, and to predict, if predicted: no part of the answer.
    prepare_seconds: float | None = field(default=None, compare=False)
    predict_seconds: float | None = field(default=None, compare=False)
    code: str | None = None  # if refused
    sentence: str | None = None  # if refused, or why it was unreadable
    measured: str | None = None
    limit: str | None = None

    def __post_init__(self) -> None:
        """Believe nothing that could not be: the child may be in the hands of what it decoded."""
        if self.kind not in get_args(ResultKind):
            raise ValueError(f"no way for a job to end: {self.kind!r}")
        texts = (self.sha256, self.encoding, self.code, self.sentence, self.measured, self.limit)
        numbers = (
            *(self.width, self.height, self.contrast, self.logit, self.strangeness),
            *(self.prepare_seconds, self.predict_seconds),
        )
        if not all(one is None or _is_plain(one) for one in texts):
            raise ValueError("a result with other than plain words")
        # Written so that NaN passes: whoever judges it says what it is.
        if any(one is not None and (not _is_number(one) or abs(one) >= 2**31) for one in numbers):
            raise ValueError("a result with impossible numbers")
        sides, seconds = (self.width, self.height), (self.prepare_seconds, self.predict_seconds)
        if any(one is not None and (type(one) is not int or one < 1) for one in sides):
            raise ValueError("a film of impossible size")
        if any(one is not None and not one >= 0 for one in seconds):
            raise ValueError("a result that took impossible time")
        if self.encoding is not None and not _ENCODING.fullmatch(self.encoding):
            raise ValueError("an encoding that is no digest")
        if self.kind == "refused":
            RefusalCode.of(self.code or "")
        if self.kind == "predicted" and not _SHA256.fullmatch(self.sha256 or ""):
            raise ValueError("a result without a digest")


_KINDS: dict[str, tuple[type[Message], set[str]]] = {
    kind.__name__: (kind, {field.name for field in fields(kind)})
    for kind in (Setup, Job, Ready, Unfit, Result)
}


def _is_plain(text: object) -> bool:
    return isinstance(text, str) and len(text) <= _LONGEST_TEXT and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def decode(data: bytes) -> Message:
    """Read what `encode` wrote.

    Raises:
        ValueError: it is not a message.
    """
    try:
        name, values = json.loads(data)
        kind, expected = _KINDS[name]
        if values.keys() != expected:
            raise ValueError(f"{name} with fields {sorted(values)}")
        return kind(**values)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("not a message") from error


class Channel:
    """One end of a pair of sockets. A message comes whole or not at all."""

    def __init__(self, end: socket.socket) -> None:
        """Speak over a SOCK_SEQPACKET socket."""
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Make the parent's end, and the socket for the child's.

        The parent never waits for a child that does not listen: what cannot be sent at once is
        not sent, and the child is found out by its silence.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0)
        return cls(ours), theirs

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: the other side is gone, or does not listen.
        """
        self._end.send(message.encode())

    def receive(self) -> Message | None:
        """Return the next message, or None where there is none yet and this end does not wait.

        Raises:
            EOFError: the other side is gone.
            ValueError: it is not a message.
        """
        try:
            data = self._end.recv(_LARGEST)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return decode(data)

    def close(self) -> None:
        """Hang up."""
        self._end.close()


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


def facts_of(result: Result) -> Facts:
    """Return what was measured of the film that a result is about."""
    stages = {"prepare": result.prepare_seconds, "predict": result.predict_seconds}
    return Facts(
        sha256=result.sha256,
        width=result.width,
        height=result.height,
        contrast=result.contrast,
        encoding=result.encoding,
        seconds={stage: seconds for stage, seconds in stages.items() if seconds is not None},
    )
