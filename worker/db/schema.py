"""The tables. Alembic's migrations create them; a test checks that the two agree.

Times are UTC and come from the database's clock, so that hosts with different clocks agree.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    cast,
    false,
    func,
    literal,
    text,
)
from sqlalchemy import Column as SqlColumn
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import JSON

REVISION = "0007"  # the newest migration that this release knows


class State(StrEnum):
    """The state of a scan."""

    CLAIMED = "claimed"  # a worker holds it until its lease runs out
    RECORDED = "recorded"  # the verdict is durable; the file is still in the inbox
    KEPT = "kept"  # the verdict is durable; the file stays in the inbox
    FILED = "filed"  # the verdict is durable; the file is in the archive or refused folder
    WITHDRAWN = "withdrawn"  # the file went away or changed before it was read: no verdict


class Origin(StrEnum):
    """What a prediction was made for."""

    SCREENING = "screening"  # the film arrived; `results` shows this prediction
    RESCORE = "rescore"  # another version was run on an archived film


NOBODY = ""  # as worker: the claim is on offer, see `sharing`
OPEN_STATES = (State.CLAIMED, State.RECORDED, State.KEPT)
# A constant, because an index predicate must be the same text in schema, migration and upsert.
OPEN_PREDICATE = "state IN ('claimed', 'recorded', 'kept')"
_IN_HAND_PREDICATE = "state IN ('claimed', 'recorded')"


class Utc(TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` in Postgres, ISO text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Convert to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Return UTC, also if the database does not store the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_time(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock, plus a number of seconds."""

    type = Utc()
    inherit_cache = True
    name: ClassVar[str] = "database_time"

    def __init__(self, plus_seconds: float = 0.0) -> None:
        """Return now plus `plus_seconds`."""
        super().__init__(text(repr(float(plus_seconds))))


# A lease that has run out whatever the clock shows, even if it is set back.
LAPSED = literal(datetime(1970, 1, 1, tzinfo=UTC), Utc())


def date_of(moment: ColumnElement[datetime | None]) -> ColumnElement[str]:
    """Return the UTC date of a time as YYYY-MM-DD, in either database."""
    return func.substr(cast(moment, Text), 1, 10)


@compiles(database_time, "sqlite")
def _sqlite_time(element: database_time, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    # Six decimals, as SQLAlchemy writes and reads a time in SQLite.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"


@compiles(database_time, "postgresql")
def _postgres_time(element: database_time, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"clock_timestamp() + make_interval(secs => {seconds})"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite numbers rows only in a column of exactly this type.
_Id = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> SqlColumn[int]:
    return SqlColumn("id", _Id, primary_key=True, autoincrement=True)


scans = Table(
    "scans",
    metadata,
    _id(),
    SqlColumn("file_name", Text, nullable=False),  # reversible: see filenames.spell
    SqlColumn("size_bytes", BigInteger, nullable=False),
    SqlColumn("mtime_ns", BigInteger, nullable=False),
    SqlColumn("inode", BigInteger, nullable=False),  # as signed 64 bits
    SqlColumn("state", Text, nullable=False),
    SqlColumn("worker", Text, nullable=False),  # the last to claim it
    SqlColumn("lease_until", Utc, nullable=False),
    SqlColumn("attempt", Integer, nullable=False),  # times it was claimed
    SqlColumn("crashes", Integer, nullable=False, server_default="0"),  # screeners it crashed
    SqlColumn("received_at", Utc, nullable=False),
    SqlColumn("screened_at", Utc),
    SqlColumn("filed_at", Utc),
    SqlColumn("filed_as", Text),  # path below the archive or refused folder
    SqlColumn("sha256", Text),
    SqlColumn("width", Integer),
    SqlColumn("height", Integer),
    SqlColumn("contrast", Double),
    SqlColumn("encoding", Text),  # the writer of the file, 8 hex digits: see jpeg.parse_header
    SqlColumn("refusal_code", Text),
    SqlColumn("refusal_sentence", Text),
    SqlColumn("refusal_measured", Text),
    SqlColumn("refusal_limit", Text),
    Index(
        "uq_scans_open_sighting",
        "file_name",
        "size_bytes",
        "mtime_ns",
        "inode",
        unique=True,
        sqlite_where=text(OPEN_PREDICATE),
        postgresql_where=text(OPEN_PREDICATE),
    ),
    Index(
        "ix_scans_in_hand",
        "state",
        "worker",
        sqlite_where=text(_IN_HAND_PREDICATE),
        postgresql_where=text(_IN_HAND_PREDICATE),
    ),
    Index("ix_scans_sha256", "sha256"),
    Index("ix_scans_file_name", "file_name"),
    Index("ix_scans_screened_at", "screened_at", "id"),
    Index(
        "ix_scans_refused_at",
        "screened_at",
        "id",
        sqlite_where=text("refusal_code IS NOT NULL"),
        postgresql_where=text("refusal_code IS NOT NULL"),
    ),
)


def in_hand(state: State) -> ColumnElement[bool]:
    """Whether a scan is in this state: claimed, or recorded and not yet filed.

    Uses the exact predicate of a partial index on these few rows. Otherwise neither database would
    use that index.
    """
    return and_(text(f"scans.{_IN_HAND_PREDICATE}"), scans.c.state == state)


model_versions = Table(
    "model_versions",
    metadata,
    SqlColumn("version", Text, primary_key=True),
    SqlColumn("preprocessing_version", Text, nullable=False),
    SqlColumn("threshold", Double, nullable=False),
    SqlColumn("temperature", Double, nullable=False),
    SqlColumn("manifest", JSON, nullable=False),
    SqlColumn("registered_at", Utc, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    _id(),
    SqlColumn("scan_id", _Id, ForeignKey("scans.id"), nullable=False),
    SqlColumn("model_version", Text, ForeignKey("model_versions.version"), nullable=False),
    SqlColumn("preprocessing_version", Text, nullable=False),
    SqlColumn("origin", Text, nullable=False),
    SqlColumn("reused", Boolean, nullable=False, server_default=false()),  # same bytes seen before
    SqlColumn("logit", Double, nullable=False),
    SqlColumn("probability", Double, nullable=False),
    SqlColumn("label", Text, nullable=False),
    SqlColumn("confidence", Double, nullable=False),
    SqlColumn("decision", Text, nullable=False),
    SqlColumn("review_reason", Text),
    SqlColumn("threshold", Double, nullable=False),
    SqlColumn("predicted_at", Utc, nullable=False),
    SqlColumn("strangeness", Double),  # null if the package has no familiarity limits
    SqlColumn("prevalence", Double, nullable=False, server_default="0.5"),
    UniqueConstraint("scan_id", "model_version"),
    Index(
        "uq_predictions_screening",
        "scan_id",
        unique=True,
        sqlite_where=text("origin = 'screening'"),
        postgresql_where=text("origin = 'screening'"),
    ),
    Index(
        "ix_predictions_decided_at",
        "decision",
        "predicted_at",
        "scan_id",
        sqlite_where=text("origin = 'screening'"),
        postgresql_where=text("origin = 'screening'"),
    ),
)

labels = Table(
    "labels",
    metadata,
    _id(),
    SqlColumn("scan_id", _Id, ForeignKey("scans.id"), nullable=False),
    SqlColumn("label", Text, nullable=False),
    SqlColumn("reader", Text, nullable=False),
    SqlColumn("note", Text),
    SqlColumn("said_at", Utc, nullable=False),
    Index("ix_labels_scan_id", "scan_id", "id"),
)

promotions = Table(
    "promotions",
    metadata,
    _id(),
    SqlColumn("version", Text, nullable=False),
    SqlColumn("at", Utc, nullable=False),
    SqlColumn("kind", Text, nullable=False),  # promote or rollback
    SqlColumn("from_version", Text),  # what served until then
    SqlColumn("who", Text, nullable=False),
    SqlColumn("why", Text, nullable=False),
    UniqueConstraint("version", "at"),
)

training_runs = Table(
    "training_runs",
    metadata,
    _id(),
    SqlColumn("started_at", Utc, nullable=False),
    SqlColumn("finished_at", Utc),
    SqlColumn("verdict", Text),
    SqlColumn("reasons", JSON),
    SqlColumn("champion", Text),
    SqlColumn("challenger", Text),
    SqlColumn("details", JSON),
    SqlColumn("test_digest", Text),  # of the test films it measured; null if none
    Index("ix_training_runs_test_digest", "test_digest"),
)

# One row. A release reads it if the schema is newer than its own.
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    SqlColumn("oldest_release", Text, primary_key=True),  # that can use this schema, as "0.2.0"
)

workers = Table(
    "workers",
    metadata,
    SqlColumn("name", Text, primary_key=True),  # host, process and start: unique
    SqlColumn("host", Text, nullable=False),
    SqlColumn("boot_id", Text, nullable=False),
    SqlColumn("pid", Integer, nullable=False),
    SqlColumn("pid_started", BigInteger, nullable=False),  # clock ticks since boot
    SqlColumn("started_at", Utc, nullable=False),
    SqlColumn("beat_at", Utc, nullable=False),
    SqlColumn("stopped_at", Utc),
    SqlColumn("report", JSON, nullable=False),
)

# The view that people query; migrations define it. Columns are only ever added. Their comments are
# printed in the README and in exports.
results = Table(
    "results",
    MetaData(),  # apart from the tables, so that Alembic ignores the view
    SqlColumn("scan_id", _Id, comment="Number of the scan."),
    SqlColumn(
        "file_name",
        Text,
        comment="The name of the file dropped. Bytes that are not UTF-8 are written `\\xNN`, "
        "a backslash `\\\\`.",
    ),
    SqlColumn("sha256", Text, comment="Digest of the file's bytes."),
    SqlColumn("decision", Text, comment="NORMAL, PNEUMONIA or REVIEW. Null for a refused scan."),
    SqlColumn(
        "label",
        Text,
        comment="PNEUMONIA if the probability is at the threshold or above, else NORMAL.",
    ),
    SqlColumn("probability", Double, comment="Calibrated probability of PNEUMONIA, 0 to 1."),
    SqlColumn("confidence", Double, comment="Calibrated probability of the label, 0 to 1."),
    SqlColumn(
        "review_reason",
        Text,
        comment="Why the decision is REVIEW: near_threshold or unfamiliar.",
    ),
    SqlColumn("refusal_code", Text, comment="Why there is no prediction, as a code."),
    SqlColumn("model_version", Text, comment="Version of the model that predicted."),
    SqlColumn("threshold", Double, comment="The operating point used for the label."),
    SqlColumn("received_at", Utc, comment="When the scan was first claimed or put on offer, UTC."),
    SqlColumn("screened_at", Utc, comment="When its verdict was committed, UTC."),
    SqlColumn("reader_label", Text, comment="The latest label given by a reader."),
    SqlColumn("refusal_sentence", Text, comment="The refusal in a sentence."),
    SqlColumn("refusal_measured", Text, comment="What was measured."),
    SqlColumn("refusal_limit", Text, comment="The limit that was exceeded."),
    SqlColumn(
        "reused",
        Boolean,
        comment="Whether this model had predicted the same bytes before.",
    ),
    SqlColumn(
        "filed_as",
        Text,
        comment="Path of the file below the archive or refused folder.",
    ),
    SqlColumn(
        "strangeness",
        Double,
        comment="How unlike the training films the film is. 99 in 100 training films are at 1 or "
        "below. Null if the model has no familiarity limits.",
    ),
    SqlColumn(
        "prevalence",
        Double,
        comment="The prevalence of PNEUMONIA assumed by probability, confidence and threshold: "
        "`LUNGWATCH_PREVALENCE`, else 0.5.",
    ),
)


def is_below(folder: str) -> ColumnElement[bool]:
    """Whether a scan's film is below a folder of an archive; its name is an absolute path then."""
    beginning = folder.rstrip("/") + "/"
    # LIKE ignores case in SQLite.
    return func.substr(scans.c.file_name, 1, len(beginning)) == beginning
