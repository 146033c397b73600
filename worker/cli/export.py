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
    output: Annotated[Path, typer.Argument(help="The file to write, a .csv or a .parquet.")],
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Screened since then: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    no_names: Annotated[
        bool,
        typer.Option("--no-names", help="Leave file names out, which may carry a patient's name."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write all rows of the view `results`, newest first, and beside them what each column holds.

    Films that are screened while it writes may be left out. The dictionary is `NAME.columns.csv`.
    """
    if output.suffix not in FORMATS:
        fail(f"{output}: name a file that ends in {' or '.join(FORMATS)}")
    dictionary = output.with_suffix(".columns.csv")
    for path in (output, dictionary):
        common.refuse_to_replace(path, force=force)
    query = Query(since=None if since is None else common.moment(since), limit=sys.maxsize)
    rows = Results(common.database(common.settings())).find(query)
    # Aside first: what has its name is whole.
    aside = output.with_name(f".{output.stem}.{os.getpid()}{output.suffix}")
    try:
        count = write_rows(aside, rows, names=not no_names)
        write_dictionary(dictionary, names=not no_names)
        if force:
            aside.replace(output)
        else:
            move(os.fsencode(aside), os.fsencode(output))
    except FileExistsError:
        fail(f"{output} is there already: --force replaces it")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")
    finally:
        with suppress(OSError):
            aside.unlink()
    typer.echo(f"{output}: {count:,} rows; what each column holds: {dictionary}")
