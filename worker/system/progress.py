"""A progress bar for a person at a terminal; nothing at all where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """Where a bar stands; of one that nobody watches, nothing is kept."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        """Move the bar of this task, or none."""
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        """Count so many more as done."""
        if self._progress is not None:
            self._progress.update(self._task, advance=count)

    def show(
        self, *, done: int | None = None, total: int | None = None, what: str | None = None
    ) -> None:
        """Show what has changed: how many are done, how many there are, or what they are."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, description=what)


@contextmanager
def bar(
    what: str, total: int | None, *, done: int = 0, console: Console | None = None
) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, and take it away at its end.

    Args:
        what: is counted, in a word or two.
        total: how many there are; None while that is not known.
        done: how many of them were done before.
        console: to show it on, in place of standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal or (total is not None and total <= done):
        yield Bar(None, TaskID(0))
        return
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task(what, total=total, completed=done))
