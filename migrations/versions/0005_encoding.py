"""What wrote a film's file, so that another device or export is noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: at once, however long the table is."""
    op.add_column("scans", sa.Column("encoding", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("scans", "encoding")
