"""`lungwatch label`: stores readers' labels, of one scan or from a CSV file.

The file has the columns `scan,label` and optionally `by,note`.
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

# Accepted column names, the preferred first. A list from `lungwatch results --format csv` or
# `export` has several for `scan`, and two for `label`: `label` is the model's, `reader_label` the
# reader's.
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
    by: Annotated[str | None, typer.Option(help="The reader's name.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark to store with the label.")] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="A file of labels, with the columns scan,label and optionally by,note."
        ),
    ] = None,
) -> None:
    """Store a reader's label of a scan. The latest label counts; earlier ones are kept.

    Exit status: 0 if every label was stored; 1 if none was, with a reason for each problem.
    """
    if (table is None) == (scan is None) or (scan is None) != (said is None):
        fail("give a scan and NORMAL or PNEUMONIA, or a file with --csv")
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
        typer.echo("no label was stored", err=True)
    else:
        typer.echo(f"{count} scan{'s' if count != 1 else ''} labelled")
    raise typer.Exit(1 if given.problems else 0)


def read_labels(path: Path, *, by: str | None, note: str | None = None) -> list[Asked]:
    """Return the labels in a CSV file, valid or not, in order.

    Args:
        path: UTF-8, with a header line; the separator is comma or semicolon.
        by: the reader, for lines without one.
        note: the note, for lines without one.

    Raises:
        DataError: the file cannot be read, has no column for the scan or the label, or is a list
            from Lungwatch that no reader has filled in.
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
        # In a list from Lungwatch, a film without a reader's label is not an error.
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
            "`scan,label` and optionally `by,note`"
        ) from error
    if ours and not asked:
        raise DataError(f"{path}: the column {columns['label']!r} is empty; 'label' is the model's")
    return asked


def _columns(heads: Iterable[str | None]) -> Mapping[str, str | None]:
    """Return the file's header for each column, or None if the file lacks it."""
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
    """Return the name of a scan. A number in a column `scan_id` is an id, not a file name."""
    name = _cell(row, column)
    ids = column is not None and column.strip().lower() == "scan_id"
    return f"id:{name}" if ids and name.isascii() and name.isdigit() else name


def _cell(row: Mapping[str, str | None], column: str | None) -> str:
    return (row.get(column) or "").strip() if column is not None else ""
