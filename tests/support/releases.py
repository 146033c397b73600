"""Other releases, made of this one's code: 0.1.0 with its schema, and a later one with a newer."""

from __future__ import annotations

import shutil
from pathlib import Path

from checkout import REPOSITORY

from worker.db.schema import REVISION

_OF_0_1_0 = "0005"  # the newest migration of 0.1.0
_LATER = f"{int(REVISION) + 1:04}"
_MIGRATION = f'''"""What a later release adds: to tables, to the view, and a table."""

import sqlalchemy as sa
from alembic import op

revision = "{_LATER}"
down_revision = "{REVISION}"


def upgrade():
    for table in ("scans", "predictions", "workers", "training_runs", "labels", "promotions"):
        later = sa.Column("later", sa.Text(), server_default="later", nullable=False)
        op.add_column(table, later)
    op.create_table("later", sa.Column("scan_id", sa.BigInteger(), nullable=False))
    op.create_index("ix_scans_later", "scans", ["later"])
    sqlite = op.get_bind().dialect.name == "sqlite"
    asked = "SELECT sql FROM sqlite_master WHERE name = 'results'"
    view = op.get_bind().scalar(sa.text(asked if sqlite else "SELECT pg_get_viewdef('results')"))
    view = view.replace("CREATE VIEW results AS", "").rstrip(" ;")
    op.execute("DROP VIEW results")
    op.execute(f"CREATE VIEW results AS SELECT r.*, 'later' AS later FROM ({{view}}) AS r")
    op.execute("UPDATE schema_compatibility SET oldest_release = 'OLDEST'")
'''


def release_0_1_0(folder: Path) -> Path:
    """Return a PYTHONPATH of 0.1.0 as far as a database can tell."""
    project = _code(folder)
    for path in (project / "migrations" / "versions").glob("*.py"):
        if path.name[:4] > _OF_0_1_0:
            path.unlink()
    _set_revision(project, _OF_0_1_0)
    return _named(project, "0.1.0")


def later_release(folder: Path, *, oldest_release: str) -> Path:
    """Return a PYTHONPATH of 9.9.9, whose one more migration adds to the schema.

    Args:
        folder: to make it in.
        oldest_release: that the migration allows on its schema.
    """
    project = _code(folder)
    script = project / "migrations" / "versions" / f"{_LATER}_later.py"
    script.write_text(_MIGRATION.replace("OLDEST", oldest_release))
    _set_revision(project, _LATER)
    return _named(project, "9.9.9")


def _code(folder: Path) -> Path:
    for name in ("worker", "migrations"):
        shutil.copytree(REPOSITORY / name, folder / name)
    (folder / "models").symlink_to(REPOSITORY / "models")
    return folder


def _named(project: Path, release: str) -> Path:
    """Give code on a PYTHONPATH its number, as an installation has it."""
    metadata = project / f"lungwatch-{release}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: lungwatch\nVersion: {release}\n")
    return project


def _set_revision(project: Path, revision: str) -> None:
    path = project / "worker" / "db" / "schema.py"
    path.write_text(path.read_text().replace(f'"{REVISION}"', f'"{revision}"', 1))
