"""Opens the reporter: lines and a progress bar on a terminal, events for programs.

Each outcome is reported once, as `ScanEnded`. File names can contain a patient's name: logs have
them, and paths, at DEBUG only. A terminal shows them to the person who dropped the films.
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
    """Open the reporter for people if standard output is a terminal, else the one for programs.

    With a metrics file, events go there too. Above DEBUG, a log has no film names and no paths;
    `places` are replaced by their names. A terminal shows both.
    """
    reporter = _open_log(log_format, level, places)
    if metrics_file is None:
        return reporter
    from worker.monitoring.prometheus import Metrics  # noqa: PLC0415 - only if used

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
    """Passes every event to several reporters, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        """Set the reporters."""
        self._reporters = reporters

    def emit(self, event: Event) -> None:
        """Pass an event on."""
        for one in self._reporters:
            one.emit(event)
