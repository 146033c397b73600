"""The database row of a night, from its start to its end.

Without a database there is no row; nothing else changes.
"""

from __future__ import annotations

import hashlib
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from importlib.resources import files
from pathlib import Path
from typing import Any

from training.console import Say
from worker.db.engine import Database
from worker.db.training_runs import Ruling, TrainingRuns
from worker.errors import DatabaseTrouble
from worker.model.evaluation import Looks
from worker.model.manifest import Manifest

_LIBRARIES = (
    *("lungwatch", "ai-edge-litert", "jax", "keras", "numpy", "pillow", "scikit-learn"),
    *("simplejpeg", "sqlalchemy", "tensorflow"),
)
_PACKAGES = tuple(Path(str(files(name))) for name in ("training", "worker"))
# Rooms of the worker that training never imports, so they cannot change a night.
_NO_PART = {f"worker/{name}" for name in ("__main__.py", "archive", "cli", "reports", "service")}


class Record:
    """A night's row. Every method raises `DatabaseTrouble` if the database fails."""

    def __init__(self, runs: TrainingRuns | None, run: int) -> None:
        """Write to the row `run`; without `runs`, write nothing."""
        self._runs = runs
        self._run = run
        self.closed = runs is None

    def note(self, **details: Any) -> None:
        """Add to the night's details."""
        if self._runs is not None:
            self._runs.note(self._run, details)

    def look(self, test_digest: str) -> Looks | None:
        """Count a measurement on test films before it is made; None without a database."""
        return None if self._runs is None else self._runs.look(self._run, test_digest)

    def know(self, manifest: Manifest) -> None:
        """Store a version, whether or not it ever serves."""
        if self._runs is not None:
            self._runs.register(manifest)

    def close(self, ruling: Ruling, reasons: Sequence[str], **known: Any) -> None:
        """Close the row: see `TrainingRuns.close`."""
        if self._runs is not None:
            self._runs.close(self._run, ruling=ruling, reasons=reasons, **known)
        self.closed = True


@contextmanager
def recording(url: str | None, models: Path, *, say: Say) -> Iterator[Record]:
    """Open a night's row, and close it in any case.

    Args:
        url: of the database; None for none.
        models: the folder that the night has locked.
        say: called if even the failure of a night cannot be recorded.

    Raises:
        DatabaseTrouble: the database cannot be reached at the start.
    """
    if url is None:
        yield Record(None, 0)
        return
    database = Database(url)
    try:
        if note := database.migrate().note:
            say(note)
        runs = TrainingRuns(database)
        place = f"{socket.gethostname()}:{models.resolve()}"
        record = Record(runs, runs.open(place, made_with()))
        try:
            yield record
        except BaseException as error:
            _close_failed(record, error, say)
            raise
    finally:
        database.close()


def _close_failed(record: Record, error: BaseException, say: Say) -> None:
    if record.closed:
        return
    stopped = isinstance(error, KeyboardInterrupt | SystemExit)
    ruling = Ruling.INTERRUPTED if stopped else Ruling.FAILED
    reason = str(error) if isinstance(error, Exception) else ""
    try:
        record.close(ruling, [f"{type(error).__name__}: {reason}".removesuffix(": ")])
    except DatabaseTrouble as trouble:
        say(f"the end of this night could not be recorded: {trouble}")


def made_with() -> dict[str, Any]:
    """Return the versions of the code and the libraries."""
    libraries = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            libraries[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return {"code": code_digest(), "libraries": libraries}


def code_digest(packages: Sequence[Path] = _PACKAGES) -> str:
    """Return a SHA-256 over every module that can change what a night does.

    All modules of `packages` count, at any depth, except the rooms in `_NO_PART`. A new room counts
    until it is listed there.

    Args:
        packages: the folders of the packages `training` and `worker`.
    """
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package)
            if f"{package.name}/{name.parts[0]}" not in _NO_PART:
                digest.update(f"{package.name}/{name.as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
