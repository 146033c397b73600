"""What a night says: everything to a person at a terminal, to a log nothing that names a film."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from worker.system.redaction import Discretion, shown

Say = Callable[[str], None]  # is given a line for each step
_WHERE = "in this night's row of training_runs, and in a terminal"


class OfFilms(str):
    """A line that names films or patients."""

    __slots__ = ()


def teller(places: Mapping[str, Path], *, terminal: bool) -> Callable[[str], None]:
    """Return what writes a night's lines to stdout, each at once.

    Where no terminal is behind it, paths are left out, and so is what names films: that there is
    such, and where it is to be found, is said once. What the other end has no letters for is
    written in ASCII.

    Args:
        places: folders by the names of their settings, written in their places.
        terminal: whether a person reads it.
    """
    discretion = Discretion(places)
    said_where = False

    def say(line: str) -> None:
        nonlocal said_where
        if terminal:
            words = shown(line) if isinstance(line, OfFilms) else line
        elif not isinstance(line, OfFilms):
            words = discretion(line)
        elif said_where:
            return
        else:
            words, said_where = f"what is said of single films is {_WHERE}", True
        letters = sys.stdout.encoding or "utf-8"
        words = words.encode(letters, errors="backslashreplace").decode(letters)
        sys.stdout.write(f"{words}\n")
        sys.stdout.flush()

    return say


def say_error(say: Callable[[str], None], error: Exception) -> None:
    """Say what ended a night: the matter in a line, then the list, if there is one."""
    matter, *listed = str(error).split("\n")
    say(f"error: {matter}")
    for line in listed:
        say(OfFilms(line))
