"""Output of a night: complete on a terminal, without paths and names of films in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.system.redaction import Discretion, shown

Say = Callable[[str], None]  # called with a line for each step
_WHERE = "in this night's row of training_runs, and in a terminal"


class OfFilms(str):
    """A line that names films or patients."""

    __slots__ = ()


def printer(places: Mapping[str, Path], *, terminal: bool) -> Callable[[str], None]:
    """Return a function that writes a night's lines to standard output, unbuffered.

    Without a terminal, paths and lines that name films are left out; one line says so, and where to
    find them. Characters that the output's encoding lacks are escaped.

    Args:
        places: folders by the names of their settings, which replace their paths.
        terminal: whether standard output is a terminal.
    """
    discretion = Discretion(places)
    said_where = False  # whether the line on omitted films was written

    def say(line: str) -> None:
        nonlocal said_where
        if terminal:
            words = shown(line) if isinstance(line, OfFilms) else line
        elif not isinstance(line, OfFilms):
            words = discretion(line)
        elif said_where:
            return
        else:
            words, said_where = f"lines about single films are {_WHERE}", True
        letters = sys.stdout.encoding or "utf-8"
        words = words.encode(letters, errors="backslashreplace").decode(letters)
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()

    return say


def say_error(say: Callable[[str], None], error: Exception) -> None:
    """Print an error that ended a night: its first line, then its list, if any."""
    matter, *listed = str(error).split("\n")
    say(f"error: {matter}")
    for line in listed:
        say(OfFilms(line))
