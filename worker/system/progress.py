"""Progress bars for a person at a terminal; nothing at all where nobody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]


@contextmanager
def bar(
    what: str, total: int, *, done: int = 0, console: Console | None = None
) -> Iterator[Advance]:
    """Show a bar on standard error while the block runs, and take it away at its end.

    Args:
        what: is counted, in a word or two.
        total: how many there are.
        done: how many of them were done before.
        console: to show it on, in place of standard error.

    Yields:
        What is called with how many more are done.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal or total <= done:
        yield lambda _: None
        return
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.update(task, advance=count)
