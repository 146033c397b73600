"""`lungwatch export`: rows for statistics, as CSV or Parquet, with a data dictionary."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import common
from worker.cli.failure import fail
from worker.db.results import Query, Results
from worker.reports.export import FORMATS, write_dictionary, write_rows
from worker.system.files import move


def export(
    output: Annotated[Path, typer.Argument(help="The .csv or .parquet file to write.")],
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Films screened since: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    no_names: Annotated[
        bool,
        typer.Option(
            "--no-names", help="Leave out file names, which may contain a patient's name."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write all rows of the view `results`, newest first, and a file that describes the columns.

    Films screened while it writes may be left out. The description is `NAME.columns.csv`.
    """
    if output.suffix not in FORMATS:
        fail(f"{output}: the name must end in {' or '.join(FORMATS)}")
    dictionary = output.with_suffix(".columns.csv")
    for path in (output, dictionary):
        common.refuse_to_replace(path, force=force)
    query = Query(since=None if since is None else common.moment(since), limit=sys.maxsize)
    rows = Results(common.database(common.settings())).find(query)
    # Write under a temporary name: a file with its final name is complete.
    aside = output.with_name(f".{output.stem}.{os.getpid()}{output.suffix}")
    try:
        count = write_rows(aside, rows, names=not no_names)
        write_dictionary(dictionary, names=not no_names)
        if force:
            aside.replace(output)
        else:
            move(os.fsencode(aside), os.fsencode(output))
    except FileExistsError:
        fail(f"{output} exists: use --force to replace it")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")
    finally:
        with suppress(OSError):
            aside.unlink()
    typer.echo(f"{output}: {count:,} rows; columns described in {dictionary}")
