"""Messages between a screener and its parent, and the channel that carries them.

Messages are JSON, not pickles. The screener decodes foreign bytes, so the parent trusts nothing it
sends: no message may make the parent run code or fail.

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

_LARGEST = 1 << 16  # bytes, of a message
_LONGEST_TEXT = 2000  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENCODING = re.compile(r"[0-9a-f]{8}")
ResultKind = Literal["predicted", "refused", "lost", "unreadable", "out_of_memory"]


class Message:
    """A message, sent as JSON with the name of its class."""

    def encode(self) -> bytes:
        """Return the message as JSON."""
        return json.dumps([type(self).__name__, vars(self)]).encode()


@dataclass(frozen=True, kw_only=True)
class Setup(Message):
    """What a screener needs at its start."""

    inbox: str
    package: str  # folder of the model package
    limits: dict[str, Any]
    memory_mb: int  # beyond code and model
    predict_seconds: float = 0.25  # limit on the network's processor time for a film
    screen_seconds: float = 20.0  # for a film; then the parent ends the screener


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
        """The sighting that the file must still match."""
        return Sighting(
            name=self.name,
            size_bytes=self.size_bytes,
            mtime_ns=self.mtime_ns,
            inode=self.inode,
        )


@dataclass(frozen=True, kw_only=True)
class Ready(Message):
    """The model is loaded and checked. Jobs can be sent."""

    model_version: str
    unfenced: str = ""  # parts of the sandbox that are missing

    def __post_init__(self) -> None:
        """Check what the child sent."""
        if not _is_plain(self.unfenced):
            raise ValueError("unfenced is not plain text")


@dataclass(frozen=True, kw_only=True)
class Unfit(Message):
    """The model package is not fit to serve."""

    why: str


@dataclass(frozen=True, kw_only=True)
class Result(Message):
    """The outcome of a job."""

    scan_id: int
    kind: ResultKind
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    contrast: float | None = None
    encoding: str | None = None
    logit: float | None = None  # if predicted
    strangeness: float | None = None  # if predicted, and the package has familiarity limits
    # Time to read, check, decode and resize, and to predict. Not part of the outcome.
    prepare_seconds: float | None = field(default=None, compare=False)
    predict_seconds: float | None = field(default=None, compare=False)
    code: str | None = None  # if refused
    sentence: str | None = None  # if refused, or why it was unreadable
    measured: str | None = None
    limit: str | None = None

    def __post_init__(self) -> None:
        """Check what the child sent: a film may have taken control of the child."""
        if self.kind not in get_args(ResultKind):
            raise ValueError(f"unknown kind of result: {self.kind!r}")
        texts = (self.sha256, self.encoding, self.code, self.sentence, self.measured, self.limit)
        numbers = (
            *(self.width, self.height, self.contrast, self.logit, self.strangeness),
            *(self.prepare_seconds, self.predict_seconds),
        )
        if not all(one is None or _is_plain(one) for one in texts):
            raise ValueError("a result with text that is not plain")
        # Written so that NaN passes; `judge` raises on NaN.
        if any(one is not None and (not _is_number(one) or abs(one) >= 2**31) for one in numbers):
            raise ValueError("a result with an impossible number")
        sides, seconds = (self.width, self.height), (self.prepare_seconds, self.predict_seconds)
        if any(one is not None and (type(one) is not int or one < 1) for one in sides):
            raise ValueError("a film with an impossible size")
        if any(one is not None and not one >= 0 for one in seconds):
            raise ValueError("a result with an impossible time")
        if self.encoding is not None and not _ENCODING.fullmatch(self.encoding):
            raise ValueError("an encoding that is not a digest")
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
    """Decode a message that `encode` wrote.

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
    """One end of a socket pair. A message arrives complete or not at all."""

    def __init__(self, end: socket.socket) -> None:
        """Wrap a SOCK_SEQPACKET socket."""
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Return the parent's channel, and the socket for the child.

        The parent never blocks: a message that cannot be sent at once is dropped, and a child that
        does not read is noticed because it does not answer.
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
            OSError: the other side is gone or does not read.
        """
        self._end.send(message.encode())

    def receive(self) -> Message | None:
        """Return the next message, or None if there is none and the channel does not block.

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
        """Close the channel."""
        self._end.close()


def refusal_from(result: Result) -> FilmRefused:
    """Return the refusal in a result.

    Raises:
        ValueError: its code is unknown.
    """
    return FilmRefused(
        RefusalCode.of(result.code or ""),
        result.sentence or "",
        measured=result.measured,
        limit=result.limit,
    )


def facts_of(result: Result) -> Facts:
    """Return the measurements of the film in a result."""
    stages = {"prepare": result.prepare_seconds, "predict": result.predict_seconds}
    return Facts(
        sha256=result.sha256,
        width=result.width,
        height=result.height,
        contrast=result.contrast,
        encoding=result.encoding,
        seconds={stage: seconds for stage, seconds in stages.items() if seconds is not None},
    )
