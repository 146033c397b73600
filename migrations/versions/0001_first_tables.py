"""The first tables and the `results` view."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows only in an INTEGER column.
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC = sa.DateTime(timezone=True)

# The view that people query. Columns are only ever added.
RESULTS_VIEW = """
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
    s.filed_as
FROM scans AS s
LEFT JOIN predictions AS p ON p.scan_id = s.id AND p.origin = 'screening'
WHERE s.state IN ('recorded', 'kept', 'filed')
"""


def upgrade() -> None:
    """Create the tables and the view."""
    op.create_table(
        "model_versions",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("preprocessing_version", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("registered_at", UTC, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_model_versions"),
    )
    op.create_table(
        "scans",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("inode", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_until", UTC, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("received_at", UTC, nullable=False),
        sa.Column("screened_at", UTC, nullable=True),
        sa.Column("filed_at", UTC, nullable=True),
        sa.Column("filed_as", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("contrast", sa.Double(), nullable=True),
        sa.Column("refusal_code", sa.Text(), nullable=True),
        sa.Column("refusal_sentence", sa.Text(), nullable=True),
        sa.Column("refusal_measured", sa.Text(), nullable=True),
        sa.Column("refusal_limit", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_scans"),
    )
    op.create_index(
        "ix_scans_in_hand",
        "scans",
        ["state", "worker"],
        unique=False,
        sqlite_where=sa.text("state IN ('claimed', 'recorded')"),
        postgresql_where=sa.text("state IN ('claimed', 'recorded')"),
    )
    op.create_index("ix_scans_screened_at", "scans", ["screened_at"], unique=False)
    op.create_index("ix_scans_sha256", "scans", ["sha256"], unique=False)
    op.create_index("ix_scans_size_bytes", "scans", ["size_bytes"], unique=False)
    op.create_index(
        "uq_scans_open_sighting",
        "scans",
        ["file_name", "size_bytes", "mtime_ns", "inode"],
        unique=True,
        sqlite_where=sa.text("state IN ('claimed', 'recorded', 'kept')"),
        postgresql_where=sa.text("state IN ('claimed', 'recorded', 'kept')"),
    )
    op.create_table(
        "training_runs",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("started_at", UTC, nullable=False),
        sa.Column("finished_at", UTC, nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("reasons", sa.JSON(), nullable=True),
        sa.Column("champion", sa.Text(), nullable=True),
        sa.Column("challenger", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_training_runs"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pid_started", sa.BigInteger(), nullable=False),
        sa.Column("started_at", UTC, nullable=False),
        sa.Column("beat_at", UTC, nullable=False),
        sa.Column("stopped_at", UTC, nullable=True),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.create_table(
        "labels",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("scan_id", ROW_ID, nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("said_at", UTC, nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name="fk_labels_scan_id_scans"),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
    )
    op.create_index("ix_labels_scan_id", "labels", ["scan_id", "id"], unique=False)
    op.create_table(
        "predictions",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("scan_id", ROW_ID, nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("preprocessing_version", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("reused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("logit", sa.Double(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("review_reason", sa.Text(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("predicted_at", UTC, nullable=False),
        sa.ForeignKeyConstraint(
            ["model_version"],
            ["model_versions.version"],
            name="fk_predictions_model_version_model_versions",
        ),
        sa.ForeignKeyConstraint(["scan_id"], ["scans.id"], name="fk_predictions_scan_id_scans"),
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
        sa.UniqueConstraint(
            "scan_id", "model_version", name="uq_predictions_scan_id_model_version"
        ),
    )
    op.create_index(
        "uq_predictions_screening",
        "predictions",
        ["scan_id"],
        unique=True,
        sqlite_where=sa.text("origin = 'screening'"),
        postgresql_where=sa.text("origin = 'screening'"),
    )
    op.execute(RESULTS_VIEW)


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW results")
    for table in (
        "predictions",
        "labels",
        "workers",
        "training_runs",
        "scans",
        "model_versions",
    ):
        op.drop_table(table)
