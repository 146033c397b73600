"""A night's row in the database, from its beginning to its end, however it ends.

Without a database there is no row, and nothing else changes.
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
# Parts of the worker that training never imports: what they do, a night does not.
_NO_PART = {f"worker/{name}" for name in ("__main__.py", "archive", "cli", "reports", "service")}


class Record:
    """A night's row. Every method raises `DatabaseTrouble` when the database will not."""

    def __init__(self, runs: TrainingRuns | None, run: int) -> None:
        """Write to the row `run`, or nowhere."""
        self._runs = runs
        self._run = run
        self.closed = runs is None

    def note(self, **details: Any) -> None:
        """Add to what is known of the night."""
        if self._runs is not None:
            self._runs.note(self._run, details)

    def look(self, test_digest: str) -> Looks | None:
        """Count a look at test films before it is made; None where nobody counts."""
        return None if self._runs is None else self._runs.look(self._run, test_digest)

    def know(self, manifest: Manifest) -> None:
        """Put a version on record, whether or not it ever serves."""
        if self._runs is not None:
            self._runs.register(manifest)

    def close(self, ruling: Ruling, reasons: Sequence[str], **known: Any) -> None:
        """Close the row: see `TrainingRuns.close`."""
        if self._runs is not None:
            self._runs.close(self._run, ruling=ruling, reasons=reasons, **known)
        self.closed = True


@contextmanager
def recording(url: str | None, models: Path, *, say: Say) -> Iterator[Record]:
    """Open a night's row, and see to it that it is closed.

    Args:
        url: of the database; None for none.
        models: the folder that the night has to itself.
        say: is told if the end of a night that failed cannot be recorded either.

    Raises:
        DatabaseTrouble: the database cannot be reached, at the beginning.
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
    told_to_stop = isinstance(error, KeyboardInterrupt | SystemExit)
    ruling = Ruling.INTERRUPTED if told_to_stop else Ruling.FAILED
    reason = str(error) if isinstance(error, Exception) else ""
    try:
        record.close(ruling, [f"{type(error).__name__}: {reason}".removesuffix(": ")])
    except DatabaseTrouble as trouble:
        say(f"this night's end could not be recorded: {trouble}")


def made_with() -> dict[str, Any]:
    """Return the code and the libraries that a night runs on."""
    libraries = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            libraries[name] = library_version(name)
        except PackageNotFoundError:
            continue
    return {"code": code_digest(), "libraries": libraries}


def code_digest(packages: Sequence[Path] = _PACKAGES) -> str:
    """Name this code: SHA-256 over every module that can change what a night does.

    All of `packages` counts, at any depth, but for rooms that no night enters. A new room counts
    until it is named in `_NO_PART`.

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
