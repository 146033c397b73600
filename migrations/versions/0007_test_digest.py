"""Which test films each night looked at, in an indexed column of its own."""

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

    In Python, one row at a time: Postgres cannot look into JSON that holds half a surrogate pair,
    as early nights wrote it for file names that are not UTF-8, and would fail on all rows for one.
    A night's details may have a megabyte, so they are not fetched all at once.
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
    """Take them away. The nights' details still have the digests."""
    op.drop_index("ix_training_runs_test_digest", "training_runs")
    op.drop_column("training_runs", "test_digest")
