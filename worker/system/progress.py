"""A progress bar on a terminal, and nothing if standard error is not one."""

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
    """A progress bar, or a stand-in that does nothing."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        """Wrap the bar of a task; `progress` is None for the stand-in."""
        self._progress = progress
        self._task = task

    def advance(self, count: int) -> None:
        """Add `count` to the number done."""
        if self._progress is not None:
            self._progress.update(self._task, advance=count)

    def show(
        self, *, done: int | None = None, total: int | None = None, what: str | None = None
    ) -> None:
        """Set the number done, the total, or the description."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total, description=what)


@contextmanager
def bar(
    what: str, total: int | None, *, done: int = 0, console: Console | None = None
) -> Iterator[Bar]:
    """Show a progress bar on standard error while the block runs, then remove it.

    Args:
        what: the description, a word or two.
        total: how many there are; None if not known yet.
        done: how many were done before.
        console: replaces standard error.
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
