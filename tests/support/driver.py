"""Drives the worker as its users do: as a process, with an inbox, a database and a log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import warm
from packages import without_limits
from sqlalchemy import text

from worker.db.engine import Database
from worker.model.manifest import read_manifest
from worker.model.registry import Registry
from worker.system.folders import Folders

# Generous: a deadline only ends a test that would never end.
_DEADLINE_SECONDS = float(os.environ.get("TEST_DEADLINE_SECONDS", "120"))


def wait_for(
    condition: Callable[[], Any],
    *,
    seconds: float = _DEADLINE_SECONDS,
    every: float = 0.05,
    what: str = "",
) -> Any:
    """Return the first true value of `condition`, or fail when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:g} s: {what or condition}")
        time.sleep(every)  # between looks; how long something takes is never assumed


@dataclass(frozen=True, kw_only=True)
class Reckoning:
    """How many films did not end exactly once."""

    lost: int = 0  # neither in the inbox nor among the rows
    double: int = 0  # with more than one row, or more than one prediction in a row
    stuck: int = 0  # still in the inbox, or claimed or recorded and no further


@dataclass
class Site:
    """A place where Lungwatch works: folders, a database, settings; and its processes."""

    root: Path
    database_url: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of the environment, beyond settings
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    fresh: bool = False  # each command in an interpreter of its own, in place of a fork
    limits: bool = False  # of the familiar: where not, the drawn films of tests are not refused

    def __post_init__(self) -> None:
        """Make the inbox, and choose SQLite where no database is named."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.database_url = self.database_url or f"sqlite:///{self.root}/lungwatch.db"

    @property
    def inbox(self) -> Path:
        """Where films are dropped."""
        return self.root / "inbox"

    @property
    def archive(self) -> Path:
        """Where screened films go."""
        return self.root / "archive"

    @property
    def refused(self) -> Path:
        """Where refused films go."""
        return self.root / "refused"

    @property
    def folders(self) -> Folders:
        """All three, as they are handed on."""
        return Folders(inbox=self.inbox, archive=self.archive, refused=self.refused)

    @property
    def models(self) -> Path:
        """The registry in use."""
        return self.root / "models"

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this site finds in its environment."""
        settings = {
            "INBOX": str(self.inbox),
            "ARCHIVE": str(self.archive),
            "REFUSED": str(self.refused),
            "MODELS": str(self.models),
            "DATABASE_URL": self.database_url,
            "SETTLE_SECONDS": "0.1",
            "SCAN_SECONDS": "0.5",
            "INCOMPLETE_SECONDS": "0.3",
            **self.settings,
        }
        inherited = {name: value for name, value in os.environ.items() if "LUNGWATCH" not in name}
        ours = {f"LUNGWATCH_{name}": value for name, value in settings.items()}
        return inherited | {"PYTHONFAULTHANDLER": "1"} | ours | self.variables

    @property
    def command(self) -> tuple[str, ...]:
        """What `lungwatch` is, as a command."""
        return _LUNGWATCH

    # Processes

    def start(
        self, *arguments: str, wrapper: Sequence[str] = (), command: str = "run"
    ) -> subprocess.Popen[str]:
        """Start `lungwatch run`, or another command, and return at once."""
        self._spare_drawn_films()
        log = (self.root / f"worker-{len(self.processes)}.log").open("w", encoding="utf-8")
        with log:
            process = subprocess.Popen(
                [*wrapper, *_LUNGWATCH, command, *arguments],
                env=self.environment,
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,  # so that what a wrapper runs is ended with it
            )
        self.processes.append(process)
        return process

    def call(self, *arguments: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and check its exit status unless that is None.

        What `variables` has may concern an interpreter's start: then it is a fresh one, too.
        """
        if arguments[0] in ("run", "backfill"):
            self._spare_drawn_films()
        if self.fresh or self.variables:
            done = subprocess.run(
                [*_LUNGWATCH, *arguments],
                env=self.environment,
                cwd=self.root,
                capture_output=True,
                text=True,
                timeout=_DEADLINE_SECONDS,
                check=False,
            )
        else:
            done = warm.run(
                arguments,
                environment=self.environment,
                folder=self.root,
                seconds=_DEADLINE_SECONDS,
            )
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done

    def _spare_drawn_films(self) -> None:
        """Before a first start, put the shipped model into service without its limits, if any."""
        shipped = Registry(_SHIPPED)
        package = shipped.folder(shipped.serving())
        if self.limits or self.models.exists() or "MODELS" in self.settings:
            return
        if read_manifest(package).familiar is not None:
            without_limits(package, self.models)

    def stop(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        process.send_signal(number)
        return process.wait(_DEADLINE_SECONDS)

    def end(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log(self) -> str:
        """Return everything the workers have said so far."""
        return "".join(
            path.read_text(encoding="utf-8") for path in sorted(self.root.glob("worker-*.log"))
        )

    # Films

    def drop(self, films: Mapping[str, bytes]) -> None:
        """Put films into the inbox under their names, as a plain copy does."""
        for name, data in films.items():
            (self.inbox / name).write_bytes(data)

    # What came of it

    def query(self, statement: str) -> list[Mapping[str, Any]]:
        """Ask the database, as a user with a client does."""
        database = Database(self.database_url)
        assert database.exists(), "no database yet"
        try:
            with database.reading() as connection:
                return [dict(row) for row in connection.execute(text(statement)).mappings()]
        finally:
            database.close()

    def results(self) -> list[Mapping[str, Any]]:
        """Return all rows of the `results` view."""
        return self.query("SELECT * FROM results ORDER BY scan_id")

    def finished(self) -> int:
        """Return how many scans have ended and been filed; 0 before there is a database."""
        try:
            rows = self.query("SELECT count(*) AS n FROM scans WHERE state IN ('filed', 'kept')")
        except Exception:  # noqa: BLE001 - no tables yet, or the database is away on purpose
            return 0
        return int(rows[0]["n"])

    def wait_until_finished(self, count: int) -> None:
        """Wait until so many scans have ended and been filed."""
        try:
            wait_for(
                lambda: self.finished() >= count,
                seconds=_DEADLINE_SECONDS + count / 2,
                every=min(1.0, 0.05 + count / 20_000),
                what=f"{count} scans filed",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.how_it_stands()}") from None

    def how_it_stands(self) -> str:
        """Return what a person would look at first where nothing goes on."""
        last, before = self.processes[-1], len(self.log())
        ended = last.poll()
        if ended is None:
            last.send_signal(signal.SIGABRT)  # it says where it stands: PYTHONFAULTHANDLER
            last.wait(_DEADLINE_SECONDS)
        states = self.query("SELECT state, worker, count(*) AS n FROM scans GROUP BY 1, 2")
        reports = self.query("SELECT * FROM workers ORDER BY started_at DESC LIMIT 1")
        return "\n".join(
            [
                f"{self.finished()} filed, {len(list(self.inbox.iterdir()))} files in the inbox",
                f"the last process had ended: {ended}",
                *map(str, states),
                *map(str, reports),
                self.log()[max(0, before - 4000) :],
            ]
        )

    def reckon(self, films: Mapping[str, bytes]) -> Reckoning:
        """Count the films, every one with a name of its own, that did not end exactly once."""
        rows = Counter(
            row["file_name"]
            for row in self.query("SELECT file_name FROM scans WHERE state <> 'withdrawn'")
        )
        waiting = {path.name for path in self.inbox.iterdir()}
        open_rows = self.query(f"SELECT count(*) AS n FROM scans WHERE {_UNENDED}")
        double = self.query(_DOUBLE)
        return Reckoning(
            lost=sum(name not in rows and name not in waiting for name in films),
            double=sum(count - 1 for count in rows.values()) + len(double),
            stuck=len(waiting) + int(open_rows[0]["n"]),
        )

    def check_invariants(self, films: Mapping[str, bytes]) -> None:
        """Check what must be true after anything whatever has happened to the worker.

        Each of `films`, every one with bytes and a name of its own, ended exactly once; the files
        stand where the rows say; nothing else lies about; the database is sound.
        """
        assert self.reckon(films) == Reckoning()
        rows = self.results()
        assert Counter(row["file_name"] for row in rows) == Counter(films.keys())
        for row in rows:
            assert (row["decision"] is None) != (row["refusal_code"] is None), row
            folder = self.archive if row["refusal_code"] is None else self.refused
            assert (folder / row["filed_as"]).read_bytes() == films[row["file_name"]]
        filed = _files(self.archive) + _files(self.refused)
        why = [path for path in filed if path.suffix == ".json"]
        refused = [row for row in rows if row["refusal_code"] is not None]
        assert len(why) == len(refused)
        assert len(filed) == len(rows) + len(why), "files that no row knows"
        if self.database_url.startswith("sqlite"):
            assert self.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


_SHIPPED = Path(__file__).resolve().parents[2] / "models"
_UNENDED = "state NOT IN ('filed', 'withdrawn')"
_DOUBLE = "SELECT scan_id FROM predictions GROUP BY scan_id HAVING count(*) > 1"
_LUNGWATCH = (sys.executable, "-m", "worker")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def without_rights() -> list[str]:
    """Return the command that runs another as an account that rights hold for."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, to take root's rights away")
    command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine lets setpriv take no rights from root: {done.stderr.strip()}")
    return command
