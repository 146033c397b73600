"""`lungwatch check`: finds what would keep the worker from working, before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import typer

from worker.db.engine import Database
from worker.db.schema import REVISION
from worker.errors import LungwatchError
from worker.model.registry import Registry
from worker.model.runtime import load
from worker.settings import Settings, check_folders, read_settings

Finding = tuple[str, str | None, str]  # what was checked, the problem if any, else a detail


def check() -> None:
    """Check settings, folders, permissions, database, migrations and model, one line each."""
    failed = 0
    for name, problem, detail in run_checks():
        failed += problem is not None
        typer.echo(f"{'FAILED' if problem else 'ok':<7} {name:<12} {problem or detail}")
    raise typer.Exit(1 if failed else 0)


def run_checks() -> Iterator[Finding]:
    """Yield a finding for each check. Checks that depend on a failed one are skipped."""
    try:
        settings = read_settings()
    except LungwatchError as error:
        yield ("settings", str(error), "")
        return
    yield ("settings", None, "read")
    try:
        check_folders(settings)
    except LungwatchError as error:
        yield ("folders", str(error), "")
    else:
        yield ("folders", None, "all exist, all different")
        for name in ("inbox", "archive", "refused", "models"):
            reads = name == "inbox" and settings.keep_in_inbox
            yield _rights(name, getattr(settings, name), write=not reads)
    yield from _database(settings)
    yield from _model(settings)
    yield _fence()


def _rights(name: str, folder: Path, *, write: bool) -> Finding:
    """Do what the worker will do: list the folder, make a file in it, remove it."""
    wanted = "listed and written" if write else "listed and read"
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
        (folder / os.curdir).stat()
        if write:
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".lungwatch-check-"):
                pass
    except OSError as error:
        right = "write" if write else "read"
        return (name, f"{folder}: {error.strerror}. Give this user permission to {right} it.", "")
    return (name, None, f"{folder}: can be {wanted}")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(
            settings.database_url.get_secret_value(), answer_seconds=settings.database_seconds
        )
        if not database.exists():
            yield ("database", None, f"{database}: will be created at the first start")
            return
        schema = database.schema()
        if not schema.is_older:
            database.try_writing()
    except LungwatchError as error:
        yield ("database", str(error), "")
        return
    can = "answers" if schema.is_older else "answers and can be written"
    yield ("database", None, f"{database}: {can}")
    if schema.revision is None:
        yield ("migrations", None, "none yet: applied at the first start")
    elif schema.is_older:
        yield (
            "migrations",
            f"at {schema.revision}, this release needs {REVISION}: start the worker",
            "",
        )
    else:
        yield ("migrations", None, schema.note or f"at {schema.revision}")
    database.close()


def _model(settings: Settings) -> Iterator[Finding]:
    registry = Registry(settings.models)
    try:
        if registry.champion() is None:
            registry = Registry(settings.shipped_models)
        version = registry.serving()
        predict_seconds = settings.screener_options.predict_seconds
        model = load(registry.folder(version), predict_seconds=predict_seconds)
    except LungwatchError as error:
        yield ("model", str(error), "")
        return
    yield ("model", None, f"{version}: hashes and golden outputs agree")
    yield ("population", None, model.manifest.tested_on.sentence)


def _fence() -> Finding:
    """Apply the sandbox in a separate process, because it cannot be removed."""
    script = (
        "import sys; from worker.screening.sandbox import enclose; "
        "print('; '.join(enclose(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, os.curdir]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    except OSError as error:
        return ("fence", f"no screener can be started: {error.strerror}", "")
    if done.returncode:
        return ("fence", f"screeners cannot be fenced in: {done.stderr.strip()[-200:]}", "")
    # Screeners work without a part that the machine lacks; it is only reported.
    missing = done.stdout.strip()
    return ("fence", None, f"incomplete: {missing}" if missing else "screeners are fenced in")
