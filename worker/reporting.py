"""What the worker says: lines and a progress bar to a person, structured events to a machine.

Each outcome is said once, by `outcome`. File names can carry a patient's name: a log gives them,
and paths, at DEBUG only. The terminal of the person who dropped the films shows them.

What is said never ends the worker: that which cannot be written is lost. `_Output` sees to it.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from worker.journal import Journal, is_our_output
from worker.manifest import NEGATIVE, POSITIVE
from worker.privacy import Discretion
from worker.records import Outcome
from worker.trouble import Trouble

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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

    def standing(self, report: Mapping[str, Any]) -> None:
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
    from worker.metrics import Metrics  # noqa: PLC0415 - only who wants it pays

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

    def standing(self, report: Mapping[str, Any]) -> None:
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


class _Output(io.FileIO):
    """An open file; where it is full, or its reader has gone, that costs words and no more.

    Each line is tried anew, so it goes on by itself. One that is written in part is finished before
    the next, so that whoever reads the file finds whole lines.

    Nothing is left in a buffer of Python's either: it would come out in halves, or at the end,
    where what cannot be written turns a clean stop into an exit status of 120.
    """

    _rest = b""  # of a line that is written in part

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it all, or as much as can be."""
        begun, left = bool(self._rest), self._rest + bytes(data)
        with suppress(OSError):
            while left and (written := super().write(left)):
                begun = not left[:written].endswith(b"\n")
                left = left[written:]
        line, end, _ = left.partition(b"\n")
        self._rest = line + end if begun else b""
        return memoryview(data).nbytes


def _standard_output() -> TextIO:
    """Open standard output for a worker that outlives it."""
    if sys.stdout is None:  # it was closed before we began
        return io.TextIOWrapper(_Output(os.devnull, "w"), write_through=True)
    return io.TextIOWrapper(
        _Output(sys.stdout.fileno(), "w", closefd=False),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",  # a name in letters that the terminal lacks is no trouble either
        write_through=True,
    )


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
            journal or structlog.WriteLogger(_standard_output()),
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
            "trouble over", kind=trouble.kind, tries=trouble.count, seconds=_since(trouble, now)
        )

    def event(self, name: str, **fields: Any) -> None:
        """Say something else that an operator would want to know."""
        fit = {key: self._fit(it) if isinstance(it, str) else it for key, it in fields.items()}
        self._log.info(name, **fit)

    def standing(self, report: Mapping[str, Any]) -> None:
        """Say nothing: a machine reads `status`."""

    def progress(self, *, done: int, waiting: int) -> None:
        """Say nothing: a machine reads `status`."""

    def close(self) -> None:
        """Say no more."""


COLOURS = {POSITIVE: "bold red", NEGATIVE: "green"}


class TerminalReporter:
    """Plain words, a line a scan, and a progress bar while there is a backlog."""

    def __init__(self, *, discretion: Discretion | None = None) -> None:
        """Write to the terminal; to what is none with `discretion`, and naming no film."""
        from rich.console import Console  # noqa: PLC0415 - only who shows pays
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(file=_standard_output(), highlight=False)
        self._discretion = discretion
        self._bar = Progress(
            TextColumn("screening"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: Any = None

    def started(self, facts: dict[str, str]) -> None:
        """Say what is watched, where results go, and which model serves."""
        width = max(map(len, facts))
        for name, fact in facts.items():
            self._line(f"[dim]{name:<{width}}[/dim]  {_escape(self._fit(fact))}")
        self._line("Drop films in; Ctrl-C stops.", style="dim")

    def outcome(self, outcome: Outcome) -> None:
        """Say how a scan ended, in one line."""
        claim = outcome.claim
        name = _escape(shown(claim.sighting.name))
        if self._discretion is not None:
            name = f"scan {claim.scan_id}  {(outcome.facts.sha256 or '')[:12]}"
        if outcome.refusal is not None:
            code = outcome.refusal.code.value
            self._line(f"[yellow]REFUSED  [/yellow]  {name}  {code}: {outcome.refusal.sentence}")
        elif outcome.verdict is not None:
            verdict = outcome.verdict
            colour = COLOURS.get(verdict.decision, "yellow")
            reason = f"  {verdict.review_reason.value}" if verdict.review_reason else ""
            again = "  seen before" if outcome.reused else ""
            self._line(
                f"[{colour}]{verdict.decision:<9}[/{colour}]  {name}  probability of "
                f"{POSITIVE.lower()} {verdict.probability:.3f}{reason}{again}"
            )

    def trouble(self, trouble: Trouble) -> None:
        """Say that there is trouble of our own, once."""
        self._line(
            f"Waiting: {_escape(self._fit(trouble.message))}. No film is lost.", style="bold yellow"
        )

    def over(self, trouble: Trouble, now: float) -> None:
        """Say that it is over."""
        self._line(f"Going on after {_since(trouble, now):.0f} s.", style="green")

    def event(self, name: str, **fields: Any) -> None:
        """Say something else that an operator would want to know."""
        told = "  ".join(f"{key} {value}" for key, value in fields.items())
        self._line(f"[dim]{name}  {_escape(self._fit(told))}[/dim]")

    def standing(self, report: Mapping[str, Any]) -> None:
        """Say nothing: a person asks for `status`."""

    def progress(self, *, done: int, waiting: int) -> None:
        """Show a bar while there is a backlog worth one."""
        if self._task is None:
            if waiting < 20:
                return
            self._task = self._bar.add_task("screening", total=waiting, rate="")
            self._first = done
            self._bar.start()
        done -= self._first
        task = self._bar.tasks[0]
        rate = f"{done / task.elapsed:.0f} films/s" if task.elapsed else ""
        self._bar.update(self._task, completed=done, total=done + waiting, rate=rate)
        if waiting == 0:
            self.close()

    def close(self) -> None:
        """Take the bar down."""
        if self._task is not None:
            self._bar.stop()
            self._bar.remove_task(self._task)
            self._task = None

    def _fit(self, words: str) -> str:
        return words if self._discretion is None else self._discretion(words)

    def _line(self, markup: str, style: str = "") -> None:
        self._console.print(markup, style=style, soft_wrap=True)


def shown(name: str) -> str:
    """Write a file name so that a terminal shows it and obeys nothing in it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def _escape(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415 - only who shows pays

    return escape(text)


def _since(trouble: Trouble, now: float) -> float:
    return round(now - trouble.since, 1)
