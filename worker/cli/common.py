"""What commands share: settings, the database, moments as people write them, files to write."""

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
    """Open the database; end the command where there is none yet."""
    database_there = database_if_any(chosen)
    if database_there is None:
        shown = Database(chosen.database_url.get_secret_value())
        fail(f"there is no database at {shown} yet: `lungwatch run` makes it")
    return database_there


def database_if_any(chosen: Settings) -> Database | None:
    """Open the database, or return None where there is none yet.

    Raises:
        DatabaseTrouble: it is away, or its schema does not allow this release.
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
    """Read a moment: `2026-11-23`, `2026-11-23T08:00` (UTC), or so long ago: `90m`, `12h`, `7d`."""
    units = {"m": "minutes", "h": "hours", "d": "days"}
    if text[:-1].isdigit() and text[-1:] in units:
        try:
            return datetime.now(UTC) - timedelta(**{units[text[-1]]: int(text[:-1])})
        except (OverflowError, ValueError):
            fail(f"{option} is {text!r}: that is before the first of all years")
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} is {text!r}: give 2026-11-23, 2026-11-23T08:00 (UTC), 90m, 12h or 7d")
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def person() -> str:
    """Return who types this: the account's name, or its number where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


@contextmanager
def discreet() -> Iterator[None]:
    """Leave paths out of what ends the command, where it ends in a log."""
    try:
        yield
    except LungwatchError as error:
        fail(str(error) if sys.stderr.isatty() else Discretion({})(str(error)))


def refuse_to_replace(output: Path, *, force: bool) -> None:
    """End the command where a file is there already that it was not told to replace."""
    if not force and os.path.lexists(output):
        fail(f"{output} is there already: --force replaces it")


def write_file(output: Path, data: bytes, *, force: bool) -> None:
    """Write the whole file or none; replace one only if told to."""
    aside = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        write_atomically(output if force else aside, data)
        if not force:
            move(os.fsencode(aside), os.fsencode(output))
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, FileExistsError):
            fail(f"{output} is there already: --force replaces it")
        fail(f"{output} cannot be written: {error.strerror}")
