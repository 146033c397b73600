"""What the worker says: lines and a progress bar to a person, structured events to a machine.

Each outcome is said once, by `outcome`. File names can carry a patient's name: a log gives them,
and paths, at DEBUG only. The terminal of the person who dropped the films shows them.

What is said never ends the worker: `worker.system.output` loses what cannot be
written.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from worker.monitoring.journald import Journal, is_our_output
from worker.monitoring.log import LogReporter
from worker.monitoring.terminal import TerminalReporter
from worker.system.redaction import Discretion
from worker.system.trouble import Trouble
from worker.types import Outcome, WorkerReport


class Reporter(Protocol):
    """What the service needs to be able to say."""

    def started(self, facts: dict[str, str]) -> None:
        """Say what is watched, where results go, and which model serves."""

    def outcome(self, outcome: Outcome) -> None:
        """Say how a scan ended. The row is durable by now."""

    def trouble(self, trouble: Trouble) -> None:
        """Say that there is trouble of our own, once."""

    def over(self, trouble: Trouble, now: float) -> None:
        """Say that it is over."""

    def event(self, name: str, **fields: Any) -> None:
        """Say something else that an operator would want to know."""

    def standing(self, report: WorkerReport) -> None:
        """Say how things stand, every few seconds and whatever troubles the worker."""

    def progress(self, *, done: int, waiting: int) -> None:
        """Show how far a backlog has been worked off."""

    def close(self) -> None:
        """Say no more."""


def open_reporter(
    log_format: str, level: str, *, places: Mapping[str, Path], metrics_file: Path | None = None
) -> Reporter:
    """Open the reporter that fits: for a person if one is watching, else for a machine.

    With a file for metrics, another stands beside it.

    A log names no film and no path above DEBUG; the places are written by their names. A person
    at a terminal sees both.
    """
    watched, debug = sys.stdout is not None and sys.stdout.isatty(), level == "DEBUG"
    speaker: Reporter
    if log_format == "plain" or (log_format == "auto" and watched):
        speaker = TerminalReporter(discretion=None if watched or debug else Discretion(places))
    else:
        journal = log_format == "journal" or (log_format == "auto" and is_our_output())
        discretion = None if debug else Discretion(places)
        speaker = LogReporter(level, discretion, Journal() if journal else None)
    if metrics_file is None:
        return speaker
    from worker.monitoring.prometheus import Metrics  # noqa: PLC0415 - only who wants it pays

    return Several((speaker, Metrics(metrics_file)))


class Several:
    """Several reporters, each of which is told everything, in their order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        """Tell these."""
        self._reporters = reporters

    def started(self, facts: dict[str, str]) -> None:
        """Tell each."""
        for one in self._reporters:
            one.started(facts)

    def outcome(self, outcome: Outcome) -> None:
        """Tell each."""
        for one in self._reporters:
            one.outcome(outcome)

    def trouble(self, trouble: Trouble) -> None:
        """Tell each."""
        for one in self._reporters:
            one.trouble(trouble)

    def over(self, trouble: Trouble, now: float) -> None:
        """Tell each."""
        for one in self._reporters:
            one.over(trouble, now)

    def event(self, name: str, **fields: Any) -> None:
        """Tell each."""
        for one in self._reporters:
            one.event(name, **fields)

    def standing(self, report: WorkerReport) -> None:
        """Tell each."""
        for one in self._reporters:
            one.standing(report)

    def progress(self, *, done: int, waiting: int) -> None:
        """Tell each."""
        for one in self._reporters:
            one.progress(done=done, waiting=waiting)

    def close(self) -> None:
        """Tell each."""
        for one in self._reporters:
            one.close()
