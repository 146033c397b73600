"""The oldest release that can use this schema.

A release that finds a newer schema than its own reads here whether it can use it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table with its one row. 0.2.0 is the first release that reads it."""
    table = op.create_table(
        "schema_compatibility",
        sa.Column("oldest_release", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("oldest_release", name="pk_schema_compatibility"),
    )
    op.bulk_insert(table, [{"oldest_release": "0.2.0"}])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("schema_compatibility")
