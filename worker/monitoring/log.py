"""The log for programs: structured events, as JSON lines or in the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import structlog

from worker.monitoring.events import (
    Event,
    Notice,
    ScanEnded,
    Started,
    TroubleBegan,
    TroubleEnded,
)
from worker.monitoring.journald import Journal
from worker.system.output import standard_output
from worker.system.redaction import Discretion
from worker.types import Outcome


class LogReporter:
    """Writes an event per line to standard output, as JSON, or to the journal with fields."""

    def __init__(
        self, level: str, discretion: Discretion | None = None, journal: Journal | None = None
    ) -> None:
        """Log events at `level` or above, with text redacted by `discretion`."""
        self._redact: Callable[[str], str] = discretion or str
        as_json: list[Any] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ]
        self._log = structlog.wrap_logger(
            journal or structlog.WriteLogger(standard_output()),
            # The journal adds its own time, and takes the fields as they are.
            processors=[structlog.processors.add_log_level, *([] if journal else as_json)],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.getLevelNamesMapping()[level]
            ),
        )

    def emit(self, event: Event) -> None:
        """Log an event. The status is not logged; programs use `lungwatch status --json`."""
        match event:
            case Started(facts=facts):
                # The site's folders can identify it, so only the model is logged.
                self._log.info("started", model=facts["model"])
                self._log.debug("started with", **facts)
            case ScanEnded(outcome=outcome):
                self._outcome(outcome)
            case TroubleBegan(trouble=trouble):
                message = self._redact(trouble.message)
                self._log.warning("trouble", kind=trouble.kind, message=message)
            case TroubleEnded(trouble=trouble, seconds=seconds):
                self._log.info(
                    "trouble over",
                    kind=trouble.kind,
                    tries=trouble.count,
                    seconds=round(seconds, 1),
                )
            case Notice(name=name, fields=fields):
                self._log.info(
                    name,
                    **{
                        key: self._redact(value) if isinstance(value, str) else value
                        for key, value in fields.items()
                    },
                )
            case _:
                pass

    def _outcome(self, outcome: Outcome) -> None:
        claim = outcome.claim
        fields: dict[str, Any] = {
            "scan_id": claim.scan_id,
            "sha256": (outcome.facts.sha256 or "")[:12] or None,
            "attempt": claim.attempt,
        }
        self._log.debug("file", scan_id=claim.scan_id, file_name=claim.sighting.name)
        if outcome.refusal is not None:
            self._log.info("refused", **fields, refusal_code=outcome.refusal.code.value)
        elif outcome.verdict is not None and outcome.model is not None:
            self._log.info(
                "screened",
                **fields,
                decision=outcome.verdict.decision,
                probability=round(outcome.verdict.probability, 4),
                model=outcome.model.version,
                reused=outcome.reused,
            )
