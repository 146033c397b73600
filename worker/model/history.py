"""`HISTORY`: which model served when, by whom and why. One JSON object per line, append-only.

It is kept in the models folder, so the folder is complete without a database. The table
`promotions` holds the same for queries.
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
    ROLLBACK = "rollback"  # it serves again, and the one it replaces is not promoted again
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
    """Return a models folder's history, oldest first; empty if there is none yet.

    Raises:
        OSError: it exists and cannot be read.
    """
    try:
        lines = (root / HISTORY).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return list(_changes(lines))


@contextmanager
def changing(root: Path, *, serves: Callable[[str], bool]) -> Iterator[BinaryIO]:
    """Lock the history, so that no other process changes the champion meanwhile.

    Yields the open history. On an exception, added lines are removed unless the version they name
    serves by then: a stop or a disk error may come just after the change.

    Args:
        root: the models folder.
        serves: returns whether a version serves.

    Raises:
        OSError: the history cannot be opened for writing.
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
    """Append a line, durably, to a history opened by `changing`."""
    facts = asdict(change) | {"at": change.at.astimezone(UTC).isoformat()}
    line = json.dumps(facts, ensure_ascii=False).encode() + b"\n"
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - 1))
    torn = size_bytes > 0 and file.read(1) != b"\n"  # power was cut while a line was written
    file.write(b"\n" + line if torn else line)
    file.flush()
    os.fsync(file.fileno())


def rolled_back(history: Sequence[Change], version: str) -> Change | None:
    """Return the rollback of a model, unless a person promoted it again since.

    Versions of one model are compared without their date: the next night can make the same model
    from the same films, and a version is named by its date and the hash of the served file.
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
            # A line cut off by a power failure is of a change that did not happen: CHAMPION is
            # replaced only after the line is durable.
            continue
