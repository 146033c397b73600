"""Shared by commands: settings, the database, times as typed by people, files to write."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from worker.cli.failure import complain, fail
from worker.db.engine import Database
from worker.errors import LungwatchError
from worker.settings import Settings, read_settings
from worker.system.files import move, write_atomically
from worker.system.redaction import Discretion


def settings() -> Settings:
    """Read the settings of this process.

    Raises:
        SettingsError: one is wrong.
    """
    return read_settings()


def database(chosen: Settings) -> Database:
    """Open the database. End the command if there is none yet."""
    database_there = database_if_any(chosen)
    if database_there is None:
        shown = Database(chosen.database_url.get_secret_value())
        fail(f"there is no database at {shown} yet: `lungwatch run` creates it")
    return database_there


def database_if_any(chosen: Settings) -> Database | None:
    """Open the database, or return None if there is none yet.

    Raises:
        DatabaseTrouble: it is away, or its schema needs another release.
    """
    database_there = Database(
        chosen.database_url.get_secret_value(), answer_seconds=chosen.database_seconds
    )
    if not database_there.exists():
        return None
    if note := database_there.schema().note:
        complain(note)
    return database_there


def moment(text: str, *, option: str = "--since") -> datetime:
    """Read a time: `2026-11-23`, `2026-11-23T08:00` (UTC), or an age: `90m`, `12h`, `7d`."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        try:
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        except (OverflowError, ValueError):
            fail(f"{option} is {text!r}: date out of range")
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} is {text!r}: use 2026-11-23, 2026-11-23T08:00 (UTC), 90m, 12h or 7d")
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def person() -> str:
    """Return the name of this account, or its number if it has no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@contextmanager
def discreet() -> Iterator[None]:
    """Remove paths from the error that ends the command, unless it goes to a terminal."""
    try:
        yield
    except LungwatchError as error:
        fail(str(error) if sys.stderr.isatty() else Discretion({})(str(error)))


def refuse_to_replace(output: Path, *, force: bool) -> None:
    """End the command if the file exists and --force was not given."""
    if not force and os.path.lexists(output):
        fail(f"{output} exists: use --force to replace it")


def write_file(output: Path, data: bytes, *, force: bool) -> None:
    """Write the whole file or nothing. An existing file is replaced only if `force`."""
    aside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        write_atomically(output if force else aside, data)
        if not force:
            move(os.fsencode(aside), os.fsencode(output))
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, FileExistsError):
            fail(f"{output} exists: use --force to replace it")
        fail(f"{output} cannot be written: {error.strerror}")
