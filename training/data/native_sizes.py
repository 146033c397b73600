"""Native sizes of films: how large they were before they were copied at one size.

A table gives sizes by file name. For other films the file's own size counts, if files differ in it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from training.data.splits import LabelledScan
from worker.errors import DataError

_COLUMNS: Final = ("file_name", "width", "height")
_LISTED = 20  # invalid lines listed in an error


class Size(NamedTuple):
    """The size of a film, upright, in pixels."""

    width: int
    height: int

    @property
    def aspect_ratio(self) -> float:
        """Width divided by height."""
        return self.width / self.height


Sizes = Mapping[str, Size]  # by file name, or by SHA-256


def read_native_sizes(path: Path) -> dict[str, Size]:
    """Read a CSV with the columns file_name, width and height, in any order; others are ignored.

    Returns:
        Sizes by file name.

    Raises:
        DataError: it cannot be read, lacks a column, names no film, or has invalid lines; these
            are listed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(text.splitlines(), delimiter=_delimiter(text)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the native sizes in {path}: {error}") from error
    heads = [head.strip().lower() for head in rows[0]] if rows else []
    if missing := [column for column in _COLUMNS if column not in heads]:
        raise DataError(
            f"the native sizes in {path} have no column {' and no column '.join(missing)}: the "
            f"first line must name {', '.join(_COLUMNS)}"
        )
    places = [heads.index(column) for column in _COLUMNS]
    sizes: dict[str, Size] = {}
    problems = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            name, size = _read_row(row, places)
        except (ValueError, IndexError):
            problems.append(f"line {number}: expected a file name and two positive whole numbers")
            continue
        if (first := sizes.setdefault(name, size)) != size:
            problems.append(f"line {number}: {name} is {first.width} x {first.height} before")
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        lines = "\n  ".join([*problems[:_LISTED], *more])
        raise DataError(f"the native sizes in {path} have invalid lines:\n  {lines}")
    if not sizes:
        raise DataError(f"the native sizes in {path} name no film")
    return sizes


def _read_row(row: Sequence[str], places: Sequence[int]) -> tuple[str, Size]:
    name, width, height = (row[place].strip() for place in places)
    size = Size(int(width), int(height))
    if not name or min(size) < 1:
        raise ValueError(name)
    return name, size


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return ";" if head.count(";") > head.count(",") else ","


def digest_of_sizes(listed: Sizes) -> str | None:
    """Return a SHA-256 of a table, independent of the order of lines; None without a table."""
    if not listed:
        return None
    return hashlib.sha256(json.dumps(sorted(listed.items())).encode("ascii")).hexdigest()


def unlisted(scans: Sequence[LabelledScan], listed: Sizes) -> list[str]:
    """Return a line with the number of films that a table does not name; nothing without a table.

    Raises:
        DataError: it names none of the films.
    """
    if not listed:
        return []
    count = sum(scan.path.name not in listed for scan in scans)
    if count == len(scans):
        raise DataError(
            f"the native sizes name none of the {count:,} films: the column file_name is a film's "
            "file name, with its ending and without a folder"
        )
    return [f"{count:,} films are not in the table of native sizes"] if count else []


def native_sizes(scans: Sequence[LabelledScan], *, listed: Sizes, stored: Sizes) -> dict[str, Size]:
    """Return the native sizes of films by SHA-256. A film of unknown size is left out.

    Args:
        scans: the films of the whole data set.
        listed: the table, by file name; may be empty.
        stored: the sizes of the files, by SHA-256. They count for films that the table does not
            name, unless all of those have one size: then they are copies.
    """
    rest = {
        scan.sha256: stored[scan.sha256]
        for scan in scans
        if scan.path.name not in listed and scan.sha256 in stored
    }
    if len(set(rest.values())) < 2:
        rest = {}
    return rest | {
        scan.sha256: listed[scan.path.name] for scan in scans if scan.path.name in listed
    }
