"""Builds a backfill from settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from worker.archive.backfill import Backfill
from worker.archive.sources import fence_around
from worker.db.engine import Database
from worker.db.scans import Store
from worker.screening.pool import Pool
from worker.service.factory import open_registry
from worker.service.pipeline import Policy
from worker.settings import Settings
from worker.system.processes import this_process
from worker.system.trouble import Trouble


def open_backfill(
    settings: Settings, archive: Path, *, note: Callable[[Trouble], object]
) -> AbstractContextManager[Backfill]:
    """Start screeners on the model in service, to screen an archive in place.

    Raises:
        SettingsError: a setting is wrong, or there is no model to serve.
        DatabaseTrouble: the database is away.
        ModelPackageError, ScreenerTrouble: the model cannot serve.
    """
    return open_screeners(
        settings,
        package=model_in_service(settings),
        root=fence_around(archive),
        host=settings.worker_name,
        count=settings.screener_options.count,
        note=note,
    )


def model_in_service(settings: Settings) -> Path:
    """Return the package of the model in service.

    Raises:
        SettingsError: there is no model to serve.
    """
    registry = open_registry(settings)
    return registry.folder(registry.serving())


@contextmanager
def open_screeners(
    settings: Settings,
    *,
    package: Path,
    root: Path,
    host: str,
    count: int,
    note: Callable[[Trouble], object],
) -> Iterator[Backfill]:
    """Start `count` screeners on a package, for films below `root` that stay in place.

    `host` names this machine among those that use the database.

    Raises:
        DatabaseTrouble: the database is away.
        ModelPackageError, ScreenerTrouble: the model cannot serve.
    """
    database = Database(
        settings.database_url.get_secret_value(), answer_seconds=settings.database_seconds
    )
    database.migrate()
    screening = Backfill(
        store=Store(database, this_process(host)),
        pool=Pool(root, replace(settings.screener_options, count=count)),
        package=package,
        policy=Policy(
            settle_seconds=0.0,
            lease_seconds=settings.lease_seconds,
            incomplete_seconds=0.0,  # nobody is writing to an archive
            keep_in_inbox=True,
            one_pass=True,
            prevalence=settings.prevalence,
        ),
        root=root,
        note=note,
    )
    try:
        with screening:
            yield screening
    finally:
        database.close()
