"""What the worker says to a machine: structured events, in JSON lines or in the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from worker.monitoring.journald import Journal
from worker.system.output import standard_output
from worker.system.redaction import Discretion
from worker.system.trouble import Trouble
from worker.types import Outcome, WorkerReport


class LogReporter:
    """One event a line on standard output, as a JSON object, or in the journal with its fields."""

    def __init__(
        self, level: str, discretion: Discretion | None = None, journal: Journal | None = None
    ) -> None:
        """Log what is at `level` or above, in words passed through `discretion`."""
        import structlog  # noqa: PLC0415 - only who logs pays

        self._fit: Callable[[str], str] = discretion or str
        as_json: list[Any] = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ]
        self._log = structlog.wrap_logger(
            journal or structlog.WriteLogger(standard_output()),
            # The journal has its own time, and takes the fields as they are.
            processors=[structlog.processors.add_log_level, *([] if journal else as_json)],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.getLevelNamesMapping()[level]
            ),
        )

    def started(self, facts: dict[str, str]) -> None:
        """Say what is watched, where results go, and which model serves."""
        # Folders of a site can be telling; the model and the database's kind are enough.
        self._log.info("started", model=facts["model"])
        self._log.debug("started with", **facts)

    def outcome(self, outcome: Outcome) -> None:
        """Say how a scan ended."""
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

    def trouble(self, trouble: Trouble) -> None:
        """Say that there is trouble of our own, once."""
        self._log.warning("trouble", kind=trouble.kind, message=self._fit(trouble.message))

    def over(self, trouble: Trouble, now: float) -> None:
        """Say that it is over."""
        self._log.info(
            "trouble over",
            kind=trouble.kind,
            tries=trouble.count,
            seconds=round(now - trouble.since, 1),
        )

    def event(self, name: str, **fields: Any) -> None:
        """Say something else that an operator would want to know."""
        fit = {key: self._fit(it) if isinstance(it, str) else it for key, it in fields.items()}
        self._log.info(name, **fit)

    def standing(self, report: WorkerReport) -> None:
        """Say nothing: a machine reads `status`."""

    def progress(self, *, done: int, waiting: int) -> None:
        """Say nothing: a machine reads `status`."""

    def close(self) -> None:
        """Say no more."""
