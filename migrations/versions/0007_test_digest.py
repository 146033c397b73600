"""The test films that each night measured on, in an indexed column."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and its index, and fill it from each night's details.

    This is done in Python, row by row. Early nights wrote half surrogate pairs into JSON for file
    names that are not UTF-8. Postgres cannot parse these, so a single such row would fail the whole
    statement. Details can be a megabyte, so they are not all fetched at once.
    """
    op.add_column("training_runs", sa.Column("test_digest", sa.Text(), nullable=True))
    connection = op.get_bind()
    runs = sa.table(
        "training_runs",
        sa.column("id", sa.BigInteger()),
        sa.column("details", sa.JSON()),
        sa.column("test_digest", sa.Text()),
    )
    for run in connection.scalars(sa.select(runs.c.id)).all():
        one = runs.c.id == run
        details = connection.scalar(sa.select(sa.cast(runs.c.details, sa.Text())).where(one))
        digest = (json.loads(details or "null") or {}).get("looked_at")
        if digest is not None:
            connection.execute(sa.update(runs).where(one).values(test_digest=digest))
    op.create_index("ix_training_runs_test_digest", "training_runs", ["test_digest"])


def downgrade() -> None:
    """Drop them. The nights' details still have the digests."""
    op.drop_index("ix_training_runs_test_digest", "training_runs")
    op.drop_column("training_runs", "test_digest")
