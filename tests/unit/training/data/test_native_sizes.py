"""How large films were: read from a table, or told by files that are not all of one size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.data.native_sizes import Size, native_sizes, read_native_sizes, unlisted
from training.data.splits import LabelledScan, Side
from training.night.options import read_plan
from worker.errors import DataError
from worker.settings import Settings

_TABLE = "file_name,width,height\na.jpeg,2090,1858\nb.jpeg,1422,1152\n"


def _scan(name: str) -> LabelledScan:
    return LabelledScan(
        path=Path("NORMAL") / name,
        name=f"NORMAL/{name}",
        label="NORMAL",
        sha256=f"hash of {name}",
        patient=name,
        side=Side.TRAIN,
    )


def test_a_table_gives_sizes_by_file_name(tmp_path: Path) -> None:
    """As a spreadsheet writes it too: with semicolons, more columns, and empty lines."""
    plain, written = tmp_path / "plain.csv", tmp_path / "written.csv"
    plain.write_text(_TABLE, encoding="utf-8")
    rows = "Height; Width; ward; file_name\n1858;2090;7;a.jpeg\n;;;\n1152; 1422;;b.jpeg\n"
    written.write_text(rows, encoding="utf-8-sig")
    sizes = read_native_sizes(plain)
    assert sizes == {"a.jpeg": Size(2090, 1858), "b.jpeg": Size(1422, 1152)}
    assert sizes["a.jpeg"].aspect_ratio == pytest.approx(2090 / 1858)
    assert read_native_sizes(written) == sizes


def test_lines_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    """No name, no number, a size that is none, a line cut short, and two sizes of one film."""
    lines = [",9,9", "b.jpeg,wide,9", "c.jpeg,0,9", "d.jpeg,9,-9", "e.jpeg,9", "a.jpeg,9,9"]
    file = tmp_path / "sizes.csv"
    file.write_text("\n".join(["file_name,width,height", "a.jpeg,8,9", *lines]), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_native_sizes(file)
    told = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in told] == [f"line {n}" for n in range(3, 9)]
    assert "a.jpeg is 8 x 9" in told[-1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column file_name and no column width and no column height"),
        ("file_name,width\na.jpeg,9\n", "no column height"),
        ("a.jpeg,9,9\n", "no column file_name"),
        ("file_name,width,height\n", "name no film"),
    ],
)
def test_a_table_without_sizes_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """By what it lacks; as is a file that is not there, or is no text."""
    file = tmp_path / "sizes.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        read_native_sizes(file)
    with pytest.raises(DataError, match="cannot read"):
        read_native_sizes(tmp_path / "nothing.csv")
    file.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="cannot read"):
        read_native_sizes(file)


def test_the_table_counts_before_the_files() -> None:
    """Files speak for the films that the table does not name, if they are not of one size."""
    films = [_scan(name) for name in ("a.jpeg", "b.jpeg", "c.jpeg")]
    a, b, c = (film.sha256 for film in films)
    one, other, third = Size(9, 8), Size(7, 6), Size(5, 4)
    stored = {a: one, b: other, c: third}
    assert native_sizes(films, listed={}, stored=stored) == stored
    table = {"a.jpeg": Size(3, 2)}
    assert native_sizes(films, listed=table, stored=stored) == {**stored, a: Size(3, 2)}
    assert native_sizes(films, listed=table, stored=dict.fromkeys(stored, one)) == {a: Size(3, 2)}
    assert native_sizes(films, listed={}, stored=dict.fromkeys(stored, one)) == {}
    assert native_sizes(films, listed={}, stored={}) == {}


def test_films_that_a_table_does_not_name_are_counted() -> None:
    """A table of other films is a mistake: it is told at once."""
    films = [_scan("a.jpeg"), _scan("b.jpeg")]
    table = {"a.jpeg": Size(9, 9)}
    assert unlisted(films, {}) == []
    assert unlisted(films, table | {"b.jpeg": Size(9, 9)}) == []
    assert unlisted(films, table) == ["1 films are not in the table of native sizes"]
    with pytest.raises(DataError, match="none of the 2 films"):
        unlisted(films, {"c.jpeg": Size(9, 9)})


def test_a_night_of_other_sizes_is_other_work(tmp_path: Path) -> None:
    """What is measured depends on them; the order of lines changes nothing."""
    file, turned = tmp_path / "sizes.csv", tmp_path / "turned.csv"
    head, first, second = _TABLE.splitlines()
    file.write_text(_TABLE, encoding="utf-8")
    turned.write_text(f"{head}\n{second}\n{first}\n", encoding="utf-8")
    plan, same = (
        read_plan(["--native-sizes", str(one), "--no-database"], Settings(), description="")
        for one in (file, turned)
    )
    assert plan.native_sizes["b.jpeg"] == Size(1422, 1152)
    assert plan.work() == same.work()
    assert plan.work() != replace(plan, native_sizes={}).work()
    assert plan.work() != replace(plan, native_sizes={"b.jpeg": Size(1, 1)}).work()
