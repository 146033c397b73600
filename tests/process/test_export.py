"""Rows that leave for statistics: all of them, as they are, with what each column holds."""

from __future__ import annotations

import csv
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import films
import pytest
from driver import Site
from pyarrow import parquet

from worker.db.schema import results
from worker.errors import DataError
from worker.reports import export


@pytest.fixture
def screened(any_site: Site) -> Site:
    """Return a place where films were screened, one of them refused."""
    any_site.drop(films.small_batch(5) | {"text, with a comma.jpg": b"hello"})
    any_site.call("run", "--once")
    return any_site


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return a file's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_text(value: Any) -> str:
    """Return what CSV makes of a value."""
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def test_both_formats_say_what_the_rows_say(
    screened: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row and every value, in groups or not; and each column is explained."""
    monkeypatch.setattr(export, "_ROWS", 2)
    for name in ("rows.csv", "rows.parquet"):
        told = screened.call("export", str(tmp_path / name)).stdout
        assert told.startswith(f"{tmp_path / name}: 6 rows")
        (tmp_path / "rows.columns.csv").rename(tmp_path / f"{name}.columns")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names == list(results.columns.keys())
    in_csv = read_csv(tmp_path / "rows.csv")
    assert [{name: as_text(it) for name, it in row.items()} for row in table.to_pylist()] == in_csv
    known = {row["scan_id"]: row for row in screened.results()}
    for row in in_csv:
        of_row = known[int(row["scan_id"])]
        assert row["file_name"] == of_row["file_name"]
        assert row["probability"] == as_text(of_row["probability"])
    for name in ("rows.csv", "rows.parquet"):
        explained = read_csv(tmp_path / f"{name}.columns")
        assert [row["column"] for row in explained] == table.column_names
        assert all(row["meaning"] and row["type"] for row in explained)


def test_without_names(screened: Site, tmp_path: Path) -> None:
    """No file's name leaves, in any column."""
    screened.call("export", str(tmp_path / "rows.csv"), "--no-names")
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert len(read_csv(tmp_path / "rows.csv")) == 6
    for row in screened.results():
        assert row["file_name"] not in text
    assert "file_name" not in (tmp_path / "rows.columns.csv").read_text(encoding="utf-8")


def test_what_is_there_stays(screened: Site, tmp_path: Path) -> None:
    """Unless told otherwise; and a name says which format."""
    path = tmp_path / "rows.csv"
    path.write_text("mine", encoding="utf-8")
    assert "exists: use --force" in screened.call("export", str(path), status=2).stderr
    assert path.read_text(encoding="utf-8") == "mine"
    screened.call("export", str(path), "--force", "--since", "1h")
    assert len(read_csv(path)) == 6
    told = screened.call("export", str(tmp_path / "rows.xlsx"), status=2).stderr
    assert "end in .csv or .parquet" in told
    assert "cannot be written" in screened.call("export", "/nowhere/a.csv", status=2).stderr


def test_no_name_is_a_formula(site: Site, tmp_path: Path) -> None:
    """A stranger's file name is not reckoned out by whoever opens the table in a spreadsheet."""
    formula, hidden = '=HYPERLINK("x","y").jpeg', "a;=1+1;b-c.jpeg"  # `;` parts cells for some
    site.drop(dict(zip((formula, hidden), films.small_batch(2).values(), strict=True)))
    site.call("run", "--once")
    site.call("export", str(tmp_path / "rows.csv"))
    (tmp_path / "shown.csv").write_text(site.call("results", "--format", "csv").stdout, "utf-8")
    for name in ("rows.csv", "shown.csv"):
        told = {row["file_name"] for row in read_csv(tmp_path / name)}
        assert told == {f"'{formula}", "a;'=1+1;b-c.jpeg"}
    assert {row["file_name"] for row in site.results()} == {formula, hidden}


def test_without_pyarrow_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For this very Python, and that CSV does without."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        DataError, match=rf"{re.escape(sys.executable)} -m pip install pyarrow.*csv"
    ):
        export.write_rows(tmp_path / "rows.parquet", [], names=True)
