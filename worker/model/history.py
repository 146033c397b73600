"""`HISTORY`: which model served from when, by whom and why. One JSON object a line, only added to.

It lies in the models folder, so that the folder is the truth also where there is no database;
the table `promotions` holds the same for whoever queries.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

HISTORY = "HISTORY"


class Kind(StrEnum):
    """What happened to a version."""

    PROMOTE = "promote"  # it serves from now on
    ROLLBACK = "rollback"  # it serves again, and the one it replaces is left behind
    SHIPPED = "shipped"  # it came with an upgrade and waits; what serves did not change


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of the history."""

    at: datetime  # UTC
    kind: Kind
    version: str
    from_version: str | None  # what served until then
    who: str
    why: str


def read_history(root: Path) -> list[Change]:
    """Return what a models folder's history tells, oldest first. None yet is an empty one.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        lines = (root / HISTORY).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return list(_changes(lines))


@contextmanager
def changing(root: Path, *, serves: Callable[[str], bool]) -> Iterator[BinaryIO]:
    """Keep every other process from changing what serves, for as long as the context lasts.

    Yields the open history. If the context ends by an exception, what was added is taken back,
    unless it came about: a stop, or trouble with the disk, may come in the moment after.

    Args:
        root: the models folder.
        serves: whether a version does.

    Raises:
        OSError: it cannot be opened for writing.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / HISTORY).open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size_bytes = file.seek(0, os.SEEK_END)
        try:
            yield file
        except BaseException:
            added = _changes((root / HISTORY).read_bytes()[size_bytes:].splitlines())
            if not any(serves(change.version) for change in added):
                file.truncate(size_bytes)
            raise


def add(file: BinaryIO, change: Change) -> None:
    """Add a line to a history that `changing` opened, durably."""
    facts = asdict(change) | {"at": change.at.astimezone(UTC).isoformat()}
    line = json.dumps(facts, ensure_ascii=False).encode() + b"\n"
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - 1))
    torn = size_bytes > 0 and file.read(1) != b"\n"  # a power cut in the middle of a line
    file.write(b"\n" + line if torn else line)
    file.flush()
    os.fsync(file.fileno())


def left_behind(history: Sequence[Change], version: str) -> Change | None:
    """Return the rollback that left a model behind, unless a person promoted it again since.

    Under whatever date: the night after makes the same model of the same films, and a version's
    name is the day it was made on and the hash of what serves.
    """
    for change in reversed(history):
        if change.kind is Kind.ROLLBACK and _same_model(change.from_version, version):
            return change
        if change.kind is not Kind.SHIPPED and _same_model(change.version, version):
            return None
    return None


def _same_model(version: str | None, other: str) -> bool:
    return version is not None and version.rpartition("-")[2] == other.rpartition("-")[2]


def _changes(lines: Sequence[bytes]) -> Iterator[Change]:
    for line in lines:
        try:
            facts = json.loads(line)
            yield Change(
                at=datetime.fromisoformat(facts["at"]),
                kind=Kind(facts["kind"]),
                version=str(facts["version"]),
                from_version=facts["from_version"],
                who=str(facts["who"]),
                why=str(facts["why"]),
            )
        except (ValueError, KeyError, TypeError):
            # A line cut off by a power cut tells of a change that never came about: what serves
            # is replaced after its line is durable.
            continue
