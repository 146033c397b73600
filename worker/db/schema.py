"""The tables. Alembic's migrations make them; a test checks that the two agree.

Times are UTC and the database's own, so that workers on hosts whose clocks differ agree.
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
    """Where a scan stands."""

    CLAIMED = "claimed"  # a worker has it in hand, until its lease runs out
    RECORDED = "recorded"  # the verdict is durable; the file is still in the inbox
    KEPT = "kept"  # the verdict is durable; the file stays in the inbox
    FILED = "filed"  # the verdict is durable; the file is in the archive or refused folder
    WITHDRAWN = "withdrawn"  # the file went away or changed before it was read: no verdict


class Origin(StrEnum):
    """Why a prediction was made."""

    SCREENING = "screening"  # the film arrived: what `results` shows
    RESCORE = "rescore"  # another version was asked about an archived film


NOBODY = ""  # the worker of a claim that is on offer: see `sharing`
OPEN_STATES = (State.CLAIMED, State.RECORDED, State.KEPT)
# Written out, because an index predicate must be the same text in schema, migration and upsert.
OPEN_PREDICATE = "state IN ('claimed', 'recorded', 'kept')"
_IN_HAND_PREDICATE = "state IN ('claimed', 'recorded')"


class Utc(TypeDecorator[datetime]):
    """A moment in UTC: `timestamptz` in Postgres, ISO text in SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - SQLAlchemy's signature
    ) -> datetime | None:
        """Give UTC back, also where the database forgets the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_time(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock, plus so many seconds."""

    type = Utc()
    inherit_cache = True
    name: ClassVar[str] = "database_time"

    def __init__(self, plus_seconds: float = 0.0) -> None:
        """Now, or `plus_seconds` from now."""
        super().__init__(text(repr(float(plus_seconds))))


# A lease of nobody's, over whatever the clock says: it may be set back before the next one asks.
LAPSED = literal(datetime(1970, 1, 1, tzinfo=UTC), Utc())


def date_of(moment: ColumnElement[datetime | None]) -> ColumnElement[str]:
    """Return the UTC date of a moment as YYYY-MM-DD, in either database."""
    return func.substr(cast(moment, Text), 1, 10)


@compiles(database_time, "sqlite")
def _sqlite_time(element: database_time, compiler: SQLCompiler, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    # Six digits after the second, as SQLAlchemy writes and reads a time in SQLite.
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
# SQLite numbers rows by itself only in a column of exactly this type.
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
    SqlColumn("worker", Text, nullable=False),  # who claimed it last
    SqlColumn("lease_until", Utc, nullable=False),
    SqlColumn("attempt", Integer, nullable=False),  # how often it was claimed
    SqlColumn("crashes", Integer, nullable=False, server_default="0"),  # screeners it ended
    SqlColumn("received_at", Utc, nullable=False),
    SqlColumn("screened_at", Utc),
    SqlColumn("filed_at", Utc),
    SqlColumn("filed_as", Text),  # path below the archive or refused folder
    SqlColumn("sha256", Text),
    SqlColumn("width", Integer),
    SqlColumn("height", Integer),
    SqlColumn("contrast", Double),
    SqlColumn("encoding", Text),  # what wrote the file, 8 hex digits: see jpeg.parse_header
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
    """Whether a scan is claimed, or whether it is recorded and not yet filed.

    In the very words of an index that holds these few rows alone, however long the table: without
    them no database takes it.
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
    SqlColumn("reused", Boolean, nullable=False, server_default=false()),  # same bytes, seen before
    SqlColumn("logit", Double, nullable=False),
    SqlColumn("probability", Double, nullable=False),
    SqlColumn("label", Text, nullable=False),
    SqlColumn("confidence", Double, nullable=False),
    SqlColumn("decision", Text, nullable=False),
    SqlColumn("review_reason", Text),
    SqlColumn("threshold", Double, nullable=False),
    SqlColumn("predicted_at", Utc, nullable=False),
    SqlColumn("strangeness", Double),  # null where the package has no limits of the familiar
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
    SqlColumn("test_digest", Text),  # of the test films it looked at; null: it looked at none
    Index("ix_training_runs_test_digest", "test_digest"),
)

# One row, which a release reads where the schema is newer than its own.
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    SqlColumn("oldest_release", Text, primary_key=True),  # that can work on it, as "0.2.0"
)

workers = Table(
    "workers",
    metadata,
    SqlColumn("name", Text, primary_key=True),  # host, process and start: never used twice
    SqlColumn("host", Text, nullable=False),
    SqlColumn("boot_id", Text, nullable=False),
    SqlColumn("pid", Integer, nullable=False),
    SqlColumn("pid_started", BigInteger, nullable=False),  # clock ticks since boot
    SqlColumn("started_at", Utc, nullable=False),
    SqlColumn("beat_at", Utc, nullable=False),
    SqlColumn("stopped_at", Utc),
    SqlColumn("report", JSON, nullable=False),
)

# The view that a person queries; the migrations define it. Its columns only ever grow. What each
# holds is said here, for README and for exports.
results = Table(
    "results",
    MetaData(),  # a view: not the tables' own, so that Alembic does not take it for one
    SqlColumn("scan_id", _Id, comment="Number of the scan."),
    SqlColumn(
        "file_name",
        Text,
        comment="As it was dropped. Bytes that are not UTF-8 are written `\\xNN`, a backslash "
        "`\\\\`.",
    ),
    SqlColumn("sha256", Text, comment="Digest of the file's bytes."),
    SqlColumn("decision", Text, comment="NORMAL, PNEUMONIA or REVIEW. Null for a refused scan."),
    SqlColumn(
        "label",
        Text,
        comment="NORMAL or PNEUMONIA: the side of the threshold that the probability lies on.",
    ),
    SqlColumn("probability", Double, comment="Calibrated probability of PNEUMONIA, 0 to 1."),
    SqlColumn("confidence", Double, comment="How probable the label is, 0 to 1."),
    SqlColumn(
        "review_reason",
        Text,
        comment="Why the decision is REVIEW: near_threshold or unfamiliar.",
    ),
    SqlColumn("refusal_code", Text, comment="Why there is no prediction, as a code."),
    SqlColumn("model_version", Text, comment="Which model package predicted."),
    SqlColumn("threshold", Double, comment="The operating point that the label came from."),
    SqlColumn("received_at", Utc, comment="When the scan was first claimed or put on offer, UTC."),
    SqlColumn("screened_at", Utc, comment="When its verdict was committed, UTC."),
    SqlColumn("reader_label", Text, comment="The latest label that a reader gave."),
    SqlColumn("refusal_sentence", Text, comment="The refusal in a sentence."),
    SqlColumn("refusal_measured", Text, comment="What was measured."),
    SqlColumn("refusal_limit", Text, comment="The limit it went against."),
    SqlColumn(
        "reused",
        Boolean,
        comment="Whether the same bytes had been predicted by this model before.",
    ),
    SqlColumn(
        "filed_as",
        Text,
        comment="Where the file lies, below the archive or refused folder.",
    ),
    SqlColumn(
        "strangeness",
        Double,
        comment="How unlike the films that the model learnt from it is: 1 is what 99 in 100 of "
        "those stay within. Null where the model has no limits of the familiar.",
    ),
    SqlColumn(
        "prevalence",
        Double,
        comment="The share of PNEUMONIA that probability, confidence and threshold are for: "
        "`LUNGWATCH_PREVALENCE`, else 0.5.",
    ),
)


def is_below(folder: str) -> ColumnElement[bool]:
    """Whether a scan lies in an archive, below a folder there: its name is a whole path then."""
    beginning = folder.rstrip("/") + "/"
    # LIKE would take A for a in SQLite.
    return func.substr(scans.c.file_name, 1, len(beginning)) == beginning
