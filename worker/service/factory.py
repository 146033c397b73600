"""Builds the service from settings. No other module knows all its parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

from worker.db.engine import Database
from worker.db.scans import Store
from worker.errors import ModelPackageError, RegistryError, SettingsError
from worker.inbox.folders import Inbox
from worker.model.registry import Registry
from worker.monitoring.events import Notice, Reporter, Started
from worker.monitoring.reporter import open_reporter
from worker.screening.pool import Pool
from worker.service.loop import Pace, Service
from worker.service.pipeline import Policy
from worker.service.sd_notify import Notifier
from worker.settings import Settings, check_folders
from worker.system.processes import this_process


@contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """Prepare folders, registry and database, and yield a service that is ready to run.

    Raises:
        SettingsError: a setting is wrong, or there is no model to serve.
    """
    check_folders(settings)
    registry = open_registry(settings)
    database = Database(
        settings.database_url.get_secret_value(), answer_seconds=settings.database_seconds
    )
    reporter = open_reporter(
        settings.log_format,
        settings.log_level,
        places=settings.places,
        metrics_file=settings.metrics_file,
    )
    _adopt(registry, Registry(settings.shipped_models), reporter)
    inbox = Inbox(settings.folders)
    service = Service(
        store=Store(database, this_process(settings.worker_name)),
        inbox=inbox,
        pool=Pool(settings.inbox, settings.screener_options),
        registry=registry,
        reporter=reporter,
        notifier=Notifier.from_environment(),
        pace=Pace(scan_seconds=settings.scan_seconds, lease_seconds=settings.lease_seconds),
        policy=Policy(
            settle_seconds=settings.settle_seconds,
            lease_seconds=settings.lease_seconds,
            incomplete_seconds=settings.incomplete_seconds,
            keep_in_inbox=settings.keep_in_inbox,
            prevalence=settings.prevalence,
        ),
        prepare=partial(_prepare, database, reporter),
    )
    reporter.emit(
        Started(
            facts={
                "Lungwatch": version("lungwatch"),
                "watching": str(settings.inbox),
                "results in": str(database),
                "archive": "films stay in the inbox"
                if settings.keep_in_inbox
                else str(settings.archive),
                "refused": str(settings.refused),
                "model": registry.serving(),
                "screeners": str(settings.screener_options.count),
            }
        )
    )
    try:
        yield service
    finally:
        database.close()


def _prepare(database: Database, reporter: Reporter) -> None:
    """Migrate the schema, and report if it is of a newer release."""
    if note := database.migrate().note:
        reporter.emit(Notice(name="newer schema", fields={"note": note}))


def open_registry(settings: Settings) -> Registry:
    """Return the registry in use, with a model in service. A first start seeds it.

    Raises:
        SettingsError: it cannot be written, or no model is promoted in it.
    """
    registry = Registry(settings.models)
    try:
        registry.seed(Registry(settings.shipped_models))
    except OSError as error:
        raise SettingsError(
            f"LUNGWATCH_MODELS is '{settings.models}': it cannot be written ({error.strerror}). "
            "Give this user permission to write, or name another folder."
        ) from error
    model = registry.champion()
    if model is None:
        raise SettingsError(
            f"LUNGWATCH_MODELS is '{settings.models}': no model is promoted there. "
            "Train one with `python -m training.retrain --data DIR`."
        )
    registry.manifest(model)
    return registry


def _adopt(registry: Registry, shipped: Registry, reporter: Reporter) -> None:
    """Copy in the model that came with an upgrade, as a challenger."""
    try:
        version = registry.adopt(shipped)
    except (RegistryError, ModelPackageError, OSError) as error:
        # Another model serves, so the worker continues without this one.
        reporter.emit(Notice(name="shipped model not taken in", fields={"why": str(error)}))
        return
    if version is not None:
        reporter.emit(Notice(name="shipped model waits to be promoted", fields={"model": version}))
