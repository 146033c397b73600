"""The command line: `lungwatch run`, `results`, `status`, `retry` and the rest.

Each command has a module of its name, which is imported when the command is called.
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

# What a full or broken disk says of standard output.
_NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
# In the order of `--help`, each with the first sentence of its own help.
_COMMANDS = {
    "run": "Watch the inbox and screen what arrives, until told to stop.",
    "results": "Show what was screened, newest first.",
    "label": "Say what a reader saw on a scan. Later labels count; earlier ones stay on record.",
    "status": "Show whether a worker is alive, what waits, and what troubled it last.",
    "retry": "Put refused films back into the inbox, to be screened anew.",
    "check": "Check settings, folders, rights, database, migrations and model, a line each.",
    "rescore": (
        "Screen archived films again with another version, as further rows in `predictions`."
    ),
    "backfill": "Screen an archive in place: its films get rows, and nothing is moved.",
    "explain": (
        "Draw where on an archived film the model's evidence lies, with score and threshold."
    ),
    "export": (
        "Write all rows of the view `results`, newest first, and beside them what each "
        "column holds."
    ),
    "discard": "Remove the files of archived films that are old enough to go. Their rows stay.",
    "drift": (
        "Compare the last week of films with the first weeks of the model here, without labels."
    ),
    "reclaim": "Put films back into the inbox that lie in the archive and have no row.",
    "report": (
        "Write one HTML page: films by day, a worklist, refusals by reason, the model in service."
    ),
    "models": "List the model packages and which one serves; promote, roll back, compare, prune.",
}


class Commands(TyperGroup):
    """All commands, none of whose modules is imported yet."""

    def __init__(self, **options: Any) -> None:
        """List them."""
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
    """Run the command line; end on trouble of ours with one line and status 2."""
    shut_out_others()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever letters a terminal has not
    try:
        app()
    except LungwatchError as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does.
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _NOT_WRITTEN:
            raise
        fail(f"what was asked for cannot be written: {error.strerror}")


def _say_version(asked: bool) -> None:  # noqa: FBT001 # as typer calls it
    if asked:
        typer.echo(f"lungwatch {version_of('lungwatch')}")
        raise typer.Exit


@app.callback()
def lungwatch(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Screens chest X-rays the moment they arrive: NORMAL, PNEUMONIA or REVIEW.

    Decision support for people who read films; not a medical device.
    """
    del version  # said and done
