"""The output for people: a line per film, and a progress bar for a backlog."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

from rich.console import Console
from rich.markup import escape

from worker.model.manifest import NEGATIVE, POSITIVE
from worker.monitoring.events import (
    Backlog,
    Event,
    Notice,
    ScanEnded,
    Started,
    Stopping,
    TroubleBegan,
    TroubleEnded,
)
from worker.system.output import standard_output
from worker.system.progress import Bar, bar
from worker.system.redaction import Discretion, shown
from worker.types import Outcome

COLOURS = {POSITIVE: "bold red", NEGATIVE: "green"}
_WORTH_A_BAR = 20  # films waiting


class TerminalReporter:
    """Plain text, a line per scan, and a progress bar during a backlog."""

    def __init__(self, *, discretion: Discretion | None = None) -> None:
        """Write to standard output; with `discretion`, for a log, without film names."""
        self._console = Console(file=standard_output(), highlight=False)
        self._discretion = discretion
        self._bar: Bar | None = None
        self._open = ExitStack()  # closing it removes the bar

    def emit(self, event: Event) -> None:
        """Show an event. The status is not shown; people use `lungwatch status`."""
        match event:
            case Started(facts=facts):
                self._started(facts)
            case ScanEnded(outcome=outcome):
                self._outcome(outcome)
            case TroubleBegan(trouble=trouble):
                message = escape(self._redact(trouble.message))
                self._line(f"Waiting: {message}. No film is lost.", style="bold yellow")
            case TroubleEnded(seconds=seconds):
                self._line(f"Continuing after {seconds:.0f} s.", style="green")
            case Notice(name=name, fields=fields):
                words = "  ".join(f"{key} {value}" for key, value in fields.items())
                self._line(f"[dim]{name}  {escape(self._redact(words))}[/dim]")
            case Backlog(done=done, waiting=waiting):
                self._backlog(done, waiting)
            case Stopping():
                self._take_bar_down()
            case _:
                pass

    def _started(self, facts: Mapping[str, str]) -> None:
        width = max(map(len, facts))
        for name, fact in facts.items():
            self._line(f"[dim]{name:<{width}}[/dim]  {escape(self._redact(fact))}")
        self._line("Drop films in; Ctrl-C stops.", style="dim")

    def _outcome(self, outcome: Outcome) -> None:
        claim = outcome.claim
        name = escape(shown(claim.sighting.name))
        if self._discretion is not None:
            name = f"scan {claim.scan_id}  {(outcome.facts.sha256 or '')[:12]}"
        if outcome.refusal is not None:
            code, sentence = outcome.refusal.code.value, escape(outcome.refusal.sentence)
            self._line(f"[yellow]REFUSED  [/yellow]  {name}  {code}: {sentence}")
        elif outcome.verdict is not None:
            verdict = outcome.verdict
            colour = COLOURS.get(verdict.decision, "yellow")
            reason = f"  {verdict.review_reason.value}" if verdict.review_reason else ""
            again = "  seen before" if outcome.reused else ""
            self._line(
                f"[{colour}]{verdict.decision:<9}[/{colour}]  {name}  probability of "
                f"{POSITIVE.lower()} {verdict.probability:.3f}{reason}{again}"
            )

    def _backlog(self, done: int, waiting: int) -> None:
        """Show a progress bar during a large backlog."""
        if self._bar is None:
            if waiting < _WORTH_A_BAR:
                return
            self._bar = self._open.enter_context(bar("screening", waiting, console=self._console))
            self._done_before, self._began = done, time.monotonic()
        done -= self._done_before
        rate = done / max(0.1, time.monotonic() - self._began)
        self._bar.show(done=done, total=done + waiting, what=f"screening, {rate:,.0f} films/s")
        if waiting == 0:
            self._take_bar_down()

    def _take_bar_down(self) -> None:
        self._open.close()
        self._bar = None

    def _redact(self, words: str) -> str:
        return words if self._discretion is None else self._discretion(words)

    def _line(self, markup: str, style: str = "") -> None:
        self._console.print(markup, style=style, soft_wrap=True)
