"""Indices for queries on millions of rows. One index that no query needs is dropped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_REFUSED = sa.text("refusal_code IS NOT NULL")
_SCREENING = sa.text("origin = 'screening'")


def upgrade() -> None:
    """Index screened films, refused films and each decision by time."""
    op.drop_index("ix_scans_size_bytes", "scans")
    op.drop_index("ix_scans_screened_at", "scans")
    op.create_index("ix_scans_screened_at", "scans", ["screened_at", "id"])
    op.create_index(
        "ix_scans_refused_at",
        "scans",
        ["screened_at", "id"],
        sqlite_where=_REFUSED,
        postgresql_where=_REFUSED,
    )
    op.create_index("ix_scans_file_name", "scans", ["file_name"])
    op.create_index(
        "ix_predictions_decided_at",
        "predictions",
        ["decision", "predicted_at", "scan_id"],
        sqlite_where=_SCREENING,
        postgresql_where=_SCREENING,
    )


def downgrade() -> None:
    """Restore the earlier indices."""
    op.drop_index("ix_predictions_decided_at", "predictions")
    op.drop_index("ix_scans_file_name", "scans")
    op.drop_index("ix_scans_refused_at", "scans")
    op.drop_index("ix_scans_screened_at", "scans")
    op.create_index("ix_scans_screened_at", "scans", ["screened_at"])
    op.create_index("ix_scans_size_bytes", "scans", ["size_bytes"])
