"""The command line: `lungwatch run`, `results`, `status`, `retry` and the rest.

Each command has a module of its name, imported when the command is called.
"""

from __future__ import annotations

import errno
import sys
from importlib.metadata import version as version_of
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from worker.cli.failure import fail
from worker.cli.lazy import LazyCommand
from worker.errors import LungwatchError
from worker.system.redaction import shut_out_others

# Errors of a write to standard output on a full or broken disk.
_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# In the order of `--help`, each with the first sentence of its help.
_COMMANDS = {
    "run": "Watch the inbox and screen new films until stopped.",
    "results": "Show what was screened, newest first.",
    "label": "Store a reader's label of a scan. The latest label counts; earlier ones are kept.",
    "status": "Show whether a worker is alive, its backlog, and its last trouble.",
    "retry": "Move refused films back into the inbox, to be screened again.",
    "check": "Check settings, folders, permissions, database, migrations and model, one line each.",
    "rescore": (
        "Screen archived films again with another model, as further rows in `predictions`."
    ),
    "backfill": "Screen an archive in place: its films get rows, and no file is moved.",
    "explain": ("Draw the model's evidence on an archived film, with score and threshold."),
    "export": (
        "Write all rows of the view `results`, newest first, and a file that describes the columns."
    ),
    "discard": "Remove the files of old archived films. Their rows stay.",
    "drift": (
        "Compare the last week of films with the model's first weeks at this site, without labels."
    ),
    "reclaim": "Move archived films that have no row back into the inbox.",
    "report": (
        "Write one HTML page: films by day, a worklist, refusals by reason, the model in service."
    ),
    "models": "List the model packages and which one serves; promote, roll back, compare, prune.",
}


class Commands(TyperGroup):
    """All commands; no command's module is imported yet."""

    def __init__(self, **options: Any) -> None:
        """Add the commands."""
        super().__init__(**options)
        for name, sentence in _COMMANDS.items():
            self.add_command(LazyCommand(name, module=f"worker.cli.{name}", sentence=sentence))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; on an error of ours, print one line and exit with status 2."""
    shut_out_others()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for characters the terminal lacks
    try:
        app()
    except LungwatchError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output ended, as `| head` does.
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        fail(f"the output cannot be written: {error.strerror}")


def _say_version(asked: bool) -> None:  # noqa: FBT001 # as typer calls it
    if asked:
        typer.echo(f"lungwatch {version_of('lungwatch')}")
        raise typer.Exit


@app.callback()
def lungwatch(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Screens chest X-rays the moment they arrive: NORMAL, PNEUMONIA or REVIEW.

    Decision support for people who read films; not a medical device.
    """
    del version  # printed by the callback
