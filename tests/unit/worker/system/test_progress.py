"""A progress bar for a person at a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from worker.system.progress import bar


@pytest.mark.parametrize("watched", [True, False])
def test_a_terminal_sees_a_bar_and_nothing_else_does(*, watched: bool) -> None:
    """Where a person watches it moves and goes away; into a log it writes nothing."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=watched, width=100)
    with bar("fitting", 10, done=3, console=console) as shown_bar:
        shown_bar.advance(4)
        shown_bar.show(done=10, what="fitted")
    assert ("10/10" in shown.getvalue()) == watched
    assert ("fitted" in shown.getvalue()) == watched
    assert bool(shown.getvalue()) == watched
