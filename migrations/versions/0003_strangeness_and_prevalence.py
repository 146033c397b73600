"""Strangeness of a film, and the prevalence assumed by its numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# The view that people query. Columns are only ever added.
_VIEW = """
CREATE VIEW results AS
SELECT
    s.id AS scan_id,
    s.file_name,
    s.sha256,
    p.decision,
    p.label,
    p.probability,
    p.confidence,
    p.review_reason,
    s.refusal_code,
    p.model_version,
    p.threshold,
    s.received_at,
    s.screened_at,
    (SELECT l.label FROM labels AS l WHERE l.scan_id = s.id ORDER BY l.id DESC LIMIT 1)
        AS reader_label,
    s.refusal_sentence,
    s.refusal_measured,
    s.refusal_limit,
    p.reused,
    s.filed_as{more}
FROM scans AS s
LEFT JOIN predictions AS p ON p.scan_id = s.id AND p.origin = 'screening'
WHERE s.state IN ('recorded', 'kept', 'filed')
"""


def upgrade() -> None:
    """Add the columns to the table and the view."""
    op.add_column("predictions", sa.Column("strangeness", sa.Double(), nullable=True))
    # Earlier probabilities assume equally frequent classes.
    op.add_column(
        "predictions",
        sa.Column("prevalence", sa.Double(), server_default="0.5", nullable=False),
    )
    op.execute("DROP VIEW results")
    op.execute(_VIEW.format(more=",\n    p.strangeness,\n    p.prevalence"))


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW results")
    op.drop_column("predictions", "prevalence")
    op.drop_column("predictions", "strangeness")
    op.execute(_VIEW.format(more=""))
