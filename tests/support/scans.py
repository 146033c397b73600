"""Sightings, workers and outcomes for tests of what happens to scans, with no film behind them."""

from __future__ import annotations

from typing import Any

from worker.db.engine import Database
from worker.db.scans import Store
from worker.errors import FilmRefused, RefusalCode
from worker.imaging.preprocessing import PREPROCESSING_VERSION
from worker.model.decision import Score, judge
from worker.model.manifest import GOLDEN, NEGATIVE, POSITIVE, SERVED, Manifest
from worker.system.processes import Process
from worker.types import Claim, Facts, Outcome, Sighting

SHA256 = "c0ffee" * 10 + "beef"


def sighting(name: str = "film.jpg", **changes: Any) -> Sighting:
    """Return a sighting of a file that need not be there."""
    facts = {"size_bytes": 1000, "mtime_ns": 1_700_000_000_123_456_789, "inode": 42}
    return Sighting(name=name, **(facts | changes))


def sightings(count: int, *, size_bytes: int = 1000) -> list[Sighting]:
    """Return so many sightings of different files of one size."""
    return [sighting(f"film-{i}.jpg", inode=i, size_bytes=size_bytes) for i in range(count)]


def manifest(version: str = "drawn-1", **changes: Any) -> Manifest:
    """Return a manifest with no package behind it."""
    facts: dict[str, Any] = {
        "format": 2,
        "version": version,
        "created_at": "2026-01-01T00:00:00+00:00",
        "classes": (NEGATIVE, POSITIVE),
        "height": 128,
        "width": 128,
        "preprocessing_version": PREPROCESSING_VERSION,
        "temperature": 1.5,
        "threshold": 0.6,
        "review_band": (0.5, 0.7),
        "files": {name: {"sha256": "0" * 64, "size_bytes": 1} for name in (SERVED, GOLDEN)},
        "training": {},
        "libraries": {},
    }
    return Manifest.model_validate(facts | changes)


def worker(database: Database, name: str = "ward-1", **changes: Any) -> Store:
    """Return a store as a worker of this name uses it, with its model known."""
    process: dict[str, Any] = {"host": "ward", "boot_id": "boot", "pid": 7, "pid_started": 70}
    return Store(database, Process(name=name, **(process | changes)))


def verdict(
    claim: Claim, *, logit: float = 2.0, version: str = "drawn-1", sha256: str = SHA256
) -> Outcome:
    """Return the outcome of a film that was predicted."""
    model = manifest(version)
    facts = Facts(sha256=sha256, width=640, height=480, contrast=51.5)
    return Outcome(claim=claim, facts=facts, verdict=judge(Score(logit=logit), model), model=model)


def refusal(claim: Claim, code: RefusalCode = RefusalCode.TOO_SMALL) -> Outcome:
    """Return the outcome of a film that was refused."""
    found = FilmRefused(code, "The picture is too small.", measured=95, limit=96)
    return Outcome(claim=claim, facts=Facts(sha256=SHA256, width=95, height=200), refusal=found)
