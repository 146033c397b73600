"""Facts that cross a boundary: inbox, screener, pipeline, store. Frozen, keyword-only."""

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
    """A file as it was seen in the inbox. Two sightings are equal if nothing of it changed."""

    name: str  # as `filenames.spell` writes it: reversible, and storable whatever its bytes
    size_bytes: int
    mtime_ns: int
    inode: int  # as signed 64 bits


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sighting that this worker has in hand."""

    scan_id: int
    sighting: Sighting
    attempt: int
    crashes: int  # screeners that ended while reading it, in earlier attempts


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was measured of a film, for its row."""

    sha256: str | None = None
    width: int | None = None  # pixels, as stored
    height: int | None = None
    contrast: float | None = None  # grey levels
    encoding: str | None = None  # what wrote the file, 8 hex digits
    seconds: Mapping[str, float] = field(default_factory=dict)  # that each stage took; in no row


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a claim ends: with a verdict of a model, or with a refusal. Never with both."""

    claim: Claim
    facts: Facts
    verdict: Verdict | None = None
    model: Manifest | None = None  # that gave the verdict
    reused: bool = False  # the verdict is an earlier one, on the same bytes
    refusal: FilmRefused | None = None

    def __post_init__(self) -> None:
        """Hold the invariant where it is made."""
        if (self.verdict is None) == (self.refusal is None):
            raise ValueError("an outcome is a verdict or a refusal")
        if (self.verdict is None) != (self.model is None):
            raise ValueError("a verdict names its model, a refusal none")


@dataclass(frozen=True, kw_only=True)
class ClaimAnswer:
    """What became of an attempt to claim sightings. Those in neither list are another worker's."""

    claims: list[Claim]
    kept: list[Sighting]  # have their verdict, and stay in the inbox


@dataclass(kw_only=True)
class Changes:
    """What is to be made durable in one transaction."""

    outcomes: list[Outcome] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)  # without a verdict: claim again
    crashed: list[Claim] = field(default_factory=list)  # the same, and it ended a screener
    withdrawn: list[Claim] = field(default_factory=list)  # the file went away or changed
    filed: list[tuple[int, str | None]] = field(default_factory=list)  # scan id, where it lies

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return any((self.outcomes, self.released, self.crashed, self.withdrawn, self.filed))


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A scan whose verdict is durable and whose file is to be seen to its place."""

    scan_id: int
    sighting: Sighting
    day: str  # UTC date of its screening, YYYY-MM-DD, as the folders are named
    sha256: str | None
    refusal: FilmRefused | None


class WorkerReport(BaseModel):
    """What a worker says of itself with each beat. The row keeps it as JSON under these names.

    Rows of other releases are read too: a field that one lacks has its default, and fields that
    are not known here stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    model: str | None = None  # the version that serves
    model_refused: str | None = None  # why the champion does not serve
    backlog: int = 0  # films known and not yet recorded
    in_hand: int = 0  # films claimed and not yet recorded
    oldest_seconds: float = 0.0  # that the oldest of them has waited
    unreadable: int = 0  # films that could not be read and are tried again
    stuck: int = 0  # films with a verdict that cannot be moved out of the inbox
    passed_over: Mapping[str, int] = Field(default_factory=dict)  # files never read, by kind
    films_per_second: float = 0.0
    screeners: int = 0  # that can take films
    screeners_ended: int = 0  # that ended unasked
    unfenced: str = ""  # what of the screeners' fence could not be put up
    events: bool = False  # the file system tells of new files
    lists: bool = True  # this worker lists the inbox
    trouble: str | None = None  # trouble of its own, now
    last_trouble: str | None = None
    population: Population | None = None  # on whose films the model that serves has been tested


class BackfillReport(BaseModel):
    """What a backfill says of itself with each beat; read as `WorkerReport` is."""

    model_config = WorkerReport.model_config

    backfill: str  # the archive's folder, as `filefilenames.spell` writes it
    model: str | None = None
    done: int = 0  # films
    in_hand: int = 0
    screeners: int = 0
    population: Population | None = None


Report = WorkerReport | BackfillReport


def read_report(facts: Mapping[str, Any]) -> Report:
    """Read what a row of `workers` holds, whatever release wrote it.

    A value that cannot be what it should be is left out: another's report ends no worker.
    """
    kind = BackfillReport if facts.get("backfill") else WorkerReport
    try:
        return kind.model_validate(facts)
    except ValidationError as error:
        wrong = {one["loc"][0] for one in error.errors()}
        return read_report({name: it for name, it in facts.items() if name not in wrong})
