"""Writes rows of the view `results` to a file for statistics, with a description of the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from worker.db.results import ResultColumn, result_columns
from worker.errors import DataError, not_installed

FORMATS = (".csv", ".parquet")
_NAMES = frozenset({"file_name", "filed_as"})  # may contain a patient's name
# Where a spreadsheet sees a formula: at the start of a cell, or after a `;` or tab.
_FORMULA = re.compile(r"^(?=[=+\-@\t\r])|(?<=[;\t\r\n\"])(?=\s*[=+\-@])")
_ROWS = 5000  # of a Parquet file's group


def columns(*, names: bool) -> list[ResultColumn]:
    """Return the columns of an export, in order, with or without file names."""
    return [column for column in result_columns() if names or column.name not in _NAMES]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, names: bool) -> int:
    """Write rows one by one, so that an archive of any size fits, and return their number.

    Args:
        path: ends in one of `FORMATS`. CSV has nulls empty and times as ISO 8601. Parquet has
            timestamps in UTC.
        rows: of the view.
        names: whether to write file names.

    Raises:
        DataError: pyarrow is needed and not installed.
        OSError: the file cannot be written.
    """
    chosen = columns(names=names)
    if path.suffix == ".parquet":
        return _write_parquet(path, rows, chosen)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in chosen])
        count = 0
        for row in rows:
            writer.writerow([csv_cell(row[column.name]) for column in chosen])
            count += 1
    return count


def write_dictionary(path: Path, *, names: bool) -> None:
    """Write the name, type and meaning of each column, as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "type", "meaning"])
        for column in columns(names=names):
            writer.writerow([column.name, column.type, column.meaning])


def csv_cell(value: Any) -> Any:
    """Return a value for CSV: times as ISO 8601, and text that no spreadsheet takes for a formula.

    File names are foreign text. A spreadsheet would evaluate one that starts like a formula, or
    that continues so after a character it takes for the end of a cell. An apostrophe is inserted
    before it (OWASP, *CSV Injection*).
    """
    if isinstance(value, datetime):
        return value.isoformat()
    return _FORMULA.sub("'", value) if isinstance(value, str) else value


def _write_parquet(
    path: Path, rows: Iterable[Mapping[str, Any]], chosen: Sequence[ResultColumn]
) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            f"{path.name}: writing it {not_installed('pyarrow')}. "
            "Use a name that ends in .csv instead."
        ) from error
    types = {
        "timestamp": pa.timestamp("us", tz="UTC"),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
    }
    schema = pa.schema(
        [
            pa.field(column.name, types[column.type], metadata={"meaning": column.meaning})
            for column in chosen
        ]
    )
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for some in _groups(rows):
            taken = [{name: row[name] for name in schema.names} for row in some]
            writer.write_table(pa.Table.from_pylist(taken, schema=schema))
            count += len(some)
    return count


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        yield some
