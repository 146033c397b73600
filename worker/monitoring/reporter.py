"""Opens the reporter that fits: lines and a progress bar for a person, events for a machine.

Each outcome is reported once, as `ScanEnded`. File names can carry a patient's name: a log gives
them, and paths, at DEBUG only. The terminal of the person who dropped the films shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.monitoring.events import Event, Reporter
from worker.monitoring.journald import Journal, is_our_output
from worker.system.redaction import Discretion


def open_reporter(
    log_format: str, level: str, *, places: Mapping[str, Path], metrics_file: Path | None = None
) -> Reporter:
    """Open the reporter for a person if one is watching, else the one for a machine.

    With a metrics file, the events go to that as well. A log names no film and no path above
    DEBUG; the `places` are written by their names. A person at a terminal sees both.
    """
    reporter = _open_log(log_format, level, places)
    if metrics_file is None:
        return reporter
    from worker.monitoring.prometheus import Metrics  # noqa: PLC0415 - only who wants it pays

    return Several((reporter, Metrics(metrics_file)))


def _open_log(log_format: str, level: str, places: Mapping[str, Path]) -> Reporter:
    watched, debug = sys.stdout is not None and sys.stdout.isatty(), level == "DEBUG"
    discretion = None if debug else Discretion(places)
    if log_format == "plain" or (log_format == "auto" and watched):
        from worker.monitoring.terminal import TerminalReporter  # noqa: PLC0415 - as above

        return TerminalReporter(discretion=None if watched else discretion)
    from worker.monitoring.log import LogReporter  # noqa: PLC0415 - as above

    journal = log_format == "journal" or (log_format == "auto" and is_our_output())
    return LogReporter(level, discretion, Journal() if journal else None)


class Several:
    """Several reporters. Each takes every event, in their order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        """Pass events on to these."""
        self._reporters = reporters

    def emit(self, event: Event) -> None:
        """Pass an event on."""
        for one in self._reporters:
            one.emit(event)
