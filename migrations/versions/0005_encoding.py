"""The writer of a film's file, to notice another device or export program."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. The time does not depend on the size of the table."""
    op.add_column("scans", sa.Column("encoding", sa.Text(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("scans", "encoding")
