"""`lungwatch label`: what readers saw, one scan at a time or from a CSV file.

The file has the columns `scan,label` and, where given, `by,note`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import common
from worker.cli.failure import complain, fail
from worker.db.labels import Asked, Labels
from worker.errors import DataError

# How the columns may be called, in this order. `lungwatch results --format csv` and `export` have
# the first three of `scan`, and both of `label`: the model's, and what a reader filled in.
_COLUMNS = {
    "scan": ("scan", "scan_id", "sha256", "file_name", "film"),
    "label": ("reader_label", "label"),
    "by": ("by", "reader"),
    "note": ("note",),
}


def label(
    scan: Annotated[
        str | None, typer.Argument(help="Id, file name, or beginning of the SHA-256.")
    ] = None,
    said: Annotated[
        str | None, typer.Argument(metavar="NORMAL|PNEUMONIA", help="What the film shows.")
    ] = None,
    *,
    by: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark to keep with it.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="Many at once: a file with the columns scan,label and maybe by,note."
        ),
    ] = None,
) -> None:
    """Say what a reader saw on a scan. Later labels count; earlier ones stay on record.

    Exit status: 0 if every label was given, 1 if none was, each with its reason.
    """
    if (table is None) == (scan is None) or (scan is None) != (said is None):
        fail("name a scan and NORMAL or PNEUMONIA, or a file with --csv")
    if table is not None:
        asked = read_labels(table, by=by, note=note)
    else:
        asked = [Asked(scan=scan or "", label=(said or "").upper(), reader=by or "", note=note)]
    given = Labels(common.database(common.settings())).give(asked)
    for problem in given.problems:
        place = f"line {problem.line}: " if problem.line is not None else ""
        complain(f"{place}{problem.scan}: {problem.why}")
    count = len(given.scan_ids)
    if given.problems:
        typer.echo("nothing was labelled", err=True)
    else:
        typer.echo(f"{count} scan{'s' if count != 1 else ''} labelled")
    raise typer.Exit(1 if given.problems else 0)


def read_labels(path: Path, *, by: str | None, note: str | None = None) -> list[Asked]:
    """Return what each line of a CSV file asks for, usable or not, in order.

    Args:
        path: UTF-8, with a line of column names; commas or semicolons between.
        by: who says so where a line does not tell.
        note: where a line has none.

    Raises:
        DataError: the file cannot be read, has no column for the scan or the label, or is a list
            of ours that nobody has filled in.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"cannot read {path}: {reason}") from error
    head = text.partition("\n")[0]
    lines = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ","
    )
    try:
        heads = lines.fieldnames or []
        columns = _columns(heads)
        # In a list of ours, a film that nobody has read is no mistake.
        ours = len({head.strip().lower() for head in heads} & set(_COLUMNS["label"])) > 1
        asked = [
            Asked(
                scan=_scan(row, columns["scan"]),
                label=_cell(row, columns["label"]).upper(),
                reader=_cell(row, columns["by"]) or (by or "").strip(),
                note=_cell(row, columns["note"]) or note,
                line=lines.line_num,
            )
            for row in lines
            if any(value for value in row.values() if isinstance(value, str) and value.strip())
            and not (ours and not _cell(row, columns["label"]))
        ]
    except csv.Error as error:
        raise DataError(f"{path}: line {lines.line_num}: {error}") from error
    except KeyError as error:
        raise DataError(
            f"{path} has no column {error.args[0]!r}: its first line must name the columns, "
            "`scan,label` and, if wanted, `by,note`"
        ) from error
    if ours and not asked:
        raise DataError(
            f"{path}: nobody has filled in {columns['label']!r}; 'label' is what the model said"
        )
    return asked


def _columns(heads: Iterable[str | None]) -> Mapping[str, str | None]:
    """Return which head of the file stands for which column, None where there is none."""
    names = {head.strip().lower(): head for head in heads if head is not None}
    heads_by_column = {
        column: next((names[name] for name in accepted if name in names), None)
        for column, accepted in _COLUMNS.items()
    }
    for needed in ("scan", "label"):
        if heads_by_column[needed] is None:
            raise KeyError(needed)
    return heads_by_column


def _scan(row: Mapping[str, str | None], column: str | None) -> str:
    """Return how a scan is named: by what is said to be an id by that alone."""
    name = _cell(row, column)
    ids = column is not None and column.strip().lower() == "scan_id"
    return f"id:{name}" if ids and name.isascii() and name.isdigit() else name


def _cell(row: Mapping[str, str | None], column: str | None) -> str:
    return (row.get(column) or "").strip() if column is not None else ""
