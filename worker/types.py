"""Types shared by rooms: sightings, claims, outcomes, reports. Frozen, keyword-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import FilmRefused
from worker.model.decision import Verdict
from worker.model.manifest import Manifest
from worker.model.population import Population


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A file as seen in the inbox. Two sightings are equal if the file has not changed."""

    name: str  # as `filenames.spell` writes it: reversible, and storable for any bytes
    size_bytes: int
    mtime_ns: int
    inode: int  # as signed 64 bits


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sighting that this worker is working on."""

    scan_id: int
    sighting: Sighting
    attempt: int
    crashes: int  # screeners that it ended in earlier attempts


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Measurements of a film, for its row."""

    sha256: str | None = None
    width: int | None = None  # pixels, as stored
    height: int | None = None
    contrast: float | None = None  # grey levels
    encoding: str | None = None  # the writer of the file, 8 hex digits
    seconds: Mapping[str, float] = field(default_factory=dict)  # taken by each stage; not stored


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a claim: a model's verdict or a refusal, never both."""

    claim: Claim
    facts: Facts
    verdict: Verdict | None = None
    model: Manifest | None = None  # that gave the verdict
    reused: bool = False  # the verdict is an earlier one, on the same bytes
    refusal: FilmRefused | None = None

    def __post_init__(self) -> None:
        """Check that there is exactly one of verdict and refusal."""
        if (self.verdict is None) == (self.refusal is None):
            raise ValueError("an outcome is a verdict or a refusal")
        if (self.verdict is None) != (self.model is None):
            raise ValueError("a verdict names its model, a refusal none")


@dataclass(frozen=True, kw_only=True)
class ClaimAnswer:
    """The result of claiming sightings. Those in neither list belong to another worker."""

    claims: list[Claim]
    kept: list[Sighting]  # have a verdict and stay in the inbox


@dataclass(kw_only=True)
class Changes:
    """Changes to commit in one transaction."""

    outcomes: list[Outcome] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)  # without a verdict: claim again
    crashed: list[Claim] = field(default_factory=list)  # likewise, and it ended a screener
    withdrawn: list[Claim] = field(default_factory=list)  # the file went away or changed
    filed: list[tuple[int, str | None]] = field(default_factory=list)  # scan id, place

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return any((self.outcomes, self.released, self.crashed, self.withdrawn, self.filed))


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A scan whose verdict is durable and whose file is to be filed."""

    scan_id: int
    sighting: Sighting
    day: str  # UTC date of its screening, YYYY-MM-DD, as the folders are named
    sha256: str | None
    refusal: FilmRefused | None


class WorkerReport(BaseModel):
    """A worker's status at each beat. Its row stores it as JSON under these names.

    Rows of other releases can be read: a missing field has its default, and unknown fields are
    kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    model: str | None = None  # the version that serves
    model_refused: str | None = None  # why the champion does not serve
    backlog: int = 0  # films known and not yet recorded
    in_hand: int = 0  # films claimed and not yet recorded
    oldest_seconds: float = 0.0  # waiting time of the oldest of them
    unreadable: int = 0  # films that could not be read and are retried
    stuck: int = 0  # films with a verdict that cannot be moved out of the inbox
    passed_over: Mapping[str, int] = Field(default_factory=dict)  # files never read, by kind
    films_per_second: float = 0.0
    screeners: int = 0  # that can take films
    screeners_ended: int = 0  # that crashed or were ended
    unfenced: str = ""  # parts of the screeners' sandbox that are missing
    events: bool = False  # the file system sends events
    lists: bool = True  # whether this worker lists the inbox
    trouble: str | None = None  # present own trouble
    last_trouble: str | None = None
    population: Population | None = None  # patients on whom the serving model was tested


class BackfillReport(BaseModel):
    """A backfill's status at each beat; read like `WorkerReport`."""

    model_config = WorkerReport.model_config

    backfill: str  # the archive's folder, as `filenames.spell` writes it
    model: str | None = None
    done: int = 0  # films
    in_hand: int = 0
    screeners: int = 0
    population: Population | None = None


Report = WorkerReport | BackfillReport


def read_report(facts: Mapping[str, Any]) -> Report:
    """Read the report in a row of `workers`, from any release.

    An invalid value is left out, so that another worker's report never ends this one.
    """
    kind = BackfillReport if facts.get("backfill") else WorkerReport
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        wrong = {one["loc"][0] for one in error.errors()}
        return read_report({name: it for name, it in facts.items() if name not in wrong})
