"""Converts between rows and types."""

from __future__ import annotations

from typing import Any

from worker.db.schema import Origin
from worker.errors import FilmRefused, RefusalCode
from worker.types import Outcome, Sighting


def refusal_of(row: Any) -> FilmRefused | None:
    """Return the refusal in a row of `scans` or `results`, or None."""
    if row.refusal_code is None:
        return None
    return FilmRefused(
        RefusalCode.of(row.refusal_code),
        row.refusal_sentence,
        measured=row.refusal_measured,
        limit=row.refusal_limit,
    )


def sighting_in(row: Any) -> Sighting:
    """Return the sighting in a row of `scans`."""
    return Sighting(
        name=row.file_name, size_bytes=row.size_bytes, mtime_ns=row.mtime_ns, inode=row.inode
    )


def sighting_row(sighting: Sighting) -> dict[str, Any]:
    """Return the columns of `scans` for a sighting."""
    return {
        "file_name": sighting.name,
        "size_bytes": sighting.size_bytes,
        "mtime_ns": sighting.mtime_ns,
        "inode": sighting.inode,
    }


def verdict_row(outcome: Outcome) -> dict[str, Any]:
    """Return the columns of `scans` for an outcome, and its claim's id."""
    refusal = outcome.refusal
    return {
        "claim_id": outcome.claim.scan_id,
        "sha256": outcome.facts.sha256,
        "width": outcome.facts.width,
        "height": outcome.facts.height,
        "contrast": outcome.facts.contrast,
        "encoding": outcome.facts.encoding,
        "refusal_code": None if refusal is None else refusal.code.value,
        "refusal_sentence": None if refusal is None else refusal.sentence,
        "refusal_measured": None if refusal is None else refusal.measured,
        "refusal_limit": None if refusal is None else refusal.limit,
    }


def prediction_row(outcome: Outcome) -> dict[str, Any]:
    """Return the row of `predictions` for an outcome with a verdict."""
    verdict, model = outcome.verdict, outcome.model
    if verdict is None or model is None:
        raise ValueError("only a verdict makes a prediction")
    return {
        "scan_id": outcome.claim.scan_id,
        "model_version": model.version,
        "preprocessing_version": model.preprocessing_version,
        "origin": Origin.SCREENING.value,
        "reused": outcome.reused,
        "logit": verdict.logit,
        "probability": verdict.probability,
        "label": verdict.label,
        "confidence": verdict.confidence,
        "decision": verdict.decision,
        "review_reason": None if verdict.review_reason is None else verdict.review_reason.value,
        "threshold": verdict.threshold,
        "strangeness": verdict.strangeness,
        "prevalence": verdict.prevalence,
    }
