"""The walls of the house: who may import whom, and which library has which door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Lower layers know nothing of higher ones; within a layer a module may use another listed with it.
LAYERS = [
    {
        "worker.errors",
        "worker.db.postgres",
        "worker.screening.sandbox",
        "worker.system.redaction",
        "worker.monitoring.drift",
    }
    | {"worker.system.output"},
    {
        "worker.imaging.jpeg",
        "worker.system.files",
        "worker.system.filenames",
        "worker.model.history",
        "worker.db.schema",
    }
    | {"worker.model.measured"},
    {"worker.imaging.preprocessing"},
    {"worker.model.familiarity"},
    {"worker.model.manifest", "worker.settings"},
    {"worker.model.decision"},
    {"worker.model.runtime"},
    {"worker.model.registry", "worker.types", "worker.db.engine", "worker.system.trouble"},
    {"worker.db.rows", "worker.db.lookup", "worker.inbox.sidecar"},
    {
        "worker.inbox.folders",
        "worker.db.scans",
        "worker.db.results",
        "worker.db.status",
        "worker.inbox.stability",
    }
    | {"worker.system.processes", "worker.db.labels", "worker.db.training_runs"},
    {"worker.cli.label_lists", "worker.archive.sources", "worker.reports.export"},
    {"worker.screening.ipc"},
    {
        "worker.screening.screener",
        "worker.inbox.watcher",
        "worker.service.dedupe",
        "worker.service.sd_notify",
    }
    | {"worker.monitoring.journald", "worker.monitoring.prometheus", "worker.monitoring.reporter"}
    | {"worker.monitoring.log", "worker.monitoring.terminal"},
    {"worker.db.promotions", "worker.db.predictions", "worker.db.sharing"}
    | {"worker.archive.discard", "worker.archive.reclaim", "worker.monitoring.drift_data"},
    {
        "worker.screening.pool",
        "worker.screening.handle",
        "worker.service.filing",
        "worker.service.intake",
        "worker.reports.tables",
        "worker.cli.check",
    },
    {"worker.reports.models", "worker.db.pruning", "worker.reports.page"},
    {
        "worker.service.pipeline",
        "worker.inbox.scanner",
        "worker.service.model_swap",
        "worker.screening.rescore",
    }
    | {"worker.screening.rescreen"}
    | {"worker.reports.explain", "worker.reports.overlay"},
    {"worker.service.loop", "worker.archive.backfill"},
    {"worker.service.factory"},
    {"worker.cli.common", "worker.archive.ray_cluster"},
    {"worker.cli.models", "worker.cli.rescore", "worker.cli.explain"}
    | {"worker.cli.backfill", "worker.cli.export", "worker.cli.report"}
    | {"worker.cli.discard", "worker.cli.reclaim", "worker.cli.drift"},
    {"worker.cli.app"},
    {"worker.__main__"},
]
# All that training and migrations may import of the worker.
SHARED_KERNEL = {
    "worker.db.predictions",
    "worker.db.engine",
    "worker.model.decision",
    "worker.monitoring.drift",
    "worker.monitoring.drift_data",
    "worker.errors",
    "worker.model.familiarity",
    "worker.system.files",
    "worker.model.history",
    "worker.imaging.jpeg",
    "worker.db.labels",
    "worker.db.training_runs",
    "worker.model.manifest",
    "worker.model.runtime",
    "worker.db.postgres",
    "worker.imaging.preprocessing",
    "worker.system.redaction",
    "worker.db.promotions",
    "worker.types",
    "worker.model.registry",
    "worker.screening.rescore",
    "worker.db.rows",
    "worker.db.schema",
    "worker.screening.rescreen",
    "worker.settings",
    "worker.db.scans",
}
# One library, one door: where each may be imported.
DOORS = {
    "simplejpeg": {"worker.imaging.preprocessing"},
    "ai_edge_litert": {"worker.model.runtime"},
    "watchdog": {"worker.inbox.watcher"},
    "sqlalchemy": {"worker.db.schema", "worker.db.engine", "worker.db.scans", "worker.db.results"}
    | {
        "worker.db.labels",
        "worker.db.training_runs",
        "worker.db.promotions",
        "worker.db.predictions",
    }
    | {"worker.db.lookup", "worker.db.sharing", "worker.reports.export", "worker.archive.discard"}
    | {"worker.archive.reclaim", "worker.monitoring.drift_data", "worker.db.status"},
    "PIL": {
        "worker.imaging.preprocessing",
        "worker.reports.overlay",
        "training.evaluate.corruptions",
    },
    "alembic": {"worker.db.engine"},
    "prometheus_client": {"worker.monitoring.prometheus"},
    "jinja2": {"worker.reports.page"},
    "ray": {"worker.archive.ray_cluster"},
    "pyarrow": {"worker.archive.sources", "worker.archive.ray_cluster", "worker.reports.export"},
    "psycopg": {"worker.db.postgres"},
    "sklearn": {
        "training.evaluate.metrics",
        "training.evaluate.operating_point",
        "training.package.familiarity",
    },
    "matplotlib": {"training.card.figures", "training.card.sheets"},
}


def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by name."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        if path.name != "__init__.py"
    }


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, at its head or within its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in _OURS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


WORKER = modules("worker")
TRAINING = modules("training")


def test_every_module_of_the_worker_has_its_layer() -> None:
    """A new module is given its place; one that is gone leaves no trace."""
    assert set.union(*LAYERS) == WORKER.keys()


@pytest.mark.parametrize("name", WORKER)
def test_imports_go_downwards(name: str) -> None:
    """A module imports from its own layer or one below, and never from training or migrations."""
    place = next(number for number, layer in enumerate(LAYERS) if name in layer)
    allowed = set.union(*LAYERS[: place + 1])
    ours = {one for one in imports(WORKER[name]) if one.split(".")[0] in _OURS}
    assert ours <= allowed


@pytest.mark.parametrize("name", [*TRAINING, *modules("migrations")])
def test_training_and_migrations_use_the_shared_kernel_alone(name: str) -> None:
    """Of the worker they import what the two sides share; nothing imports migrations."""
    path = (TRAINING | modules("migrations"))[name]
    ours = {one for one in imports(path) if one.split(".")[0] in ("worker", "migrations")}
    assert ours <= SHARED_KERNEL


@pytest.mark.parametrize("name", [*WORKER, *TRAINING])
def test_each_library_has_one_door(name: str) -> None:
    """A library that can be replaced, or is slow to load, is imported in one place."""
    path = (WORKER | TRAINING)[name]
    roots = {one.split(".")[0] for one in imports(path)}
    for library, doors in DOORS.items():
        assert library not in roots or name in doors, f"{name} imports {library}"
    if name.startswith("worker."):
        assert not roots & {"tensorflow", "keras", "sklearn", "matplotlib"}


@pytest.mark.parametrize("name", [*WORKER, *TRAINING])
def test_no_settings_are_read_but_in_entry_points(name: str) -> None:
    """Everything but an entry point is handed plain values."""
    path = (WORKER | TRAINING)[name]
    reads = "read_settings" in path.read_text(encoding="utf-8")
    entries = {"worker.settings", "worker.cli.common", "worker.cli.check", "training.retrain"}
    assert not reads or name in entries


_OURS = ("worker", "training", "migrations")
