"""Error messages of commands."""

from __future__ import annotations

from typing import NoReturn

import typer

from worker.system.redaction import shown


def fail(message: str) -> NoReturn:
    """End the command with one line and exit status 2."""
    complain(f"lungwatch: {message}")
    raise SystemExit(2)


def complain(message: str) -> None:
    """Print an error, with control characters in file names escaped."""
    typer.echo("\n".join(map(shown, message.split("\n"))), err=True)
