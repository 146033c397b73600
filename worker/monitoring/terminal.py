"""What the worker says to a person: a line a film, and a progress bar for a backlog."""

from __future__ import annotations

from typing import Any

from worker.model.manifest import NEGATIVE, POSITIVE
from worker.system.output import standard_output
from worker.system.redaction import Discretion, shown
from worker.system.trouble import Trouble
from worker.types import Outcome, WorkerReport

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

        self._console = Console(file=standard_output(), highlight=False)
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
            code, sentence = outcome.refusal.code.value, _escape(outcome.refusal.sentence)
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

    def trouble(self, trouble: Trouble) -> None:
        """Say that there is trouble of our own, once."""
        self._line(
            f"Waiting: {_escape(self._fit(trouble.message))}. No film is lost.", style="bold yellow"
        )

    def over(self, trouble: Trouble, now: float) -> None:
        """Say that it is over."""
        self._line(f"Going on after {now - trouble.since:.0f} s.", style="green")

    def event(self, name: str, **fields: Any) -> None:
        """Say something else that an operator would want to know."""
        told = "  ".join(f"{key} {value}" for key, value in fields.items())
        self._line(f"[dim]{name}  {_escape(self._fit(told))}[/dim]")

    def standing(self, report: WorkerReport) -> None:
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


def _escape(text: str) -> str:
    from rich.markup import escape  # noqa: PLC0415 - only who shows pays

    return escape(text)
