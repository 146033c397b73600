"""A copy of the SQLite database, made while the worker runs.

    python -m worker.db.backup FILE

The installer makes one before it leaves 0.1.0, which cannot start on a newer schema. FILE is
replaced. Exit status: 0 if the copy is made or there is no database yet, else 2.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from worker.db.engine import Database
from worker.errors import DatabaseTrouble, LungwatchError
from worker.settings import read_settings
from worker.system.files import fsync_folder

_BUSY_SECONDS = 60.0  # how long the copy waits for a writer


def copy_database(database: Database, file: Path) -> bool:
    """Copy a SQLite database to a file, completely and durably, or leave the file unchanged.

    Args:
        database: may be in use. Writers wait while it is copied.
        file: the copy, readable by its owner and group only.

    Returns:
        Whether there was a database to copy.

    Raises:
        DatabaseTrouble: it is Postgres, it cannot be read, or the copy cannot be written.
    """
    if not database.is_sqlite:
        raise DatabaseTrouble(f"{database} is not SQLite: use pg_dump for a backup")
    if not database.exists():
        return False
    aside = file.with_name(f"{file.name}.new")
    umask = os.umask(0o027)
    try:
        aside.unlink(missing_ok=True)
        # SQLite's backup API would start again whenever the worker writes.
        with closing(sqlite3.connect(str(database.url.database), timeout=_BUSY_SECONDS)) as source:
            source.execute("VACUUM INTO ?", [str(aside)])
        with aside.open("rb") as copied:
            os.fsync(copied.fileno())
        aside.replace(file)
        fsync_folder(file.parent)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseTrouble(f"{database} cannot be copied to {file}: {error}") from error
    finally:
        os.umask(umask)
    return True


def main(file: Path) -> int:
    """Copy the database that the settings name, and return the exit status."""
    try:
        made = copy_database(Database(read_settings().database_url.get_secret_value()), file)
    except LungwatchError as error:
        sys.stderr.write(f"lungwatch: {error}\n")
        return 2
    sys.stdout.write(f"The database is copied to {file}.\n" if made else "No database yet.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
