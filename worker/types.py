"""Facts that cross a boundary: inbox, screener, pipeline, store. Frozen, keyword-only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.errors import FilmRefused
from worker.model.decision import Verdict
from worker.model.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A file as it was seen in the inbox. Two sightings are equal if nothing of it changed."""

    name: str  # as `names.spell` writes it: reversible, and storable whatever its bytes
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
