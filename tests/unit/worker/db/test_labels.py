"""Labels: who said what of which scan, kept for good, and handed to the night."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from databases import query
from scans import manifest, refusal, sighting, verdict, worker
from sqlalchemy import event

from worker.cli.label import read_labels
from worker.db.engine import Database
from worker.db.labels import Asked, Labels
from worker.db.scans import Store
from worker.errors import DataError
from worker.system.folders import Folders
from worker.types import Changes

FOLDERS = Folders(inbox=Path("inbox"), archive=Path("archive"), refused=Path("refused"))
_INODES = itertools.count(1)


def screened(store: Store, name: str, content: str, *, filed: bool = True) -> int:
    """Record a film of this content as predicted, and filed or kept where it is."""
    (claim,) = store.claim([sighting(name, inode=next(_INODES))], lease_seconds=60).claims
    digest = hashlib.sha256(content.encode()).hexdigest()
    store.apply(Changes(outcomes=[verdict(claim, sha256=digest)]), keep=not filed)
    if filed:
        store.apply(Changes(filed=[(claim.scan_id, f"2026-11-23/{name}")]))
    return claim.scan_id


def sha256(content: str) -> str:
    """Return the digest of a film of this content."""
    return hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def store(database: Database) -> Store:
    """Return a worker's store, its model registered."""
    made = worker(database)
    made.register_model(manifest())
    return made


def ask(scan: str, label: str = "PNEUMONIA", **changes: object) -> Asked:
    """Return a request as the command line makes it."""
    facts: dict[str, object] = {"reader": "Dr. A", "note": None, "line": None}
    return Asked(scan=scan, label=label, **(facts | changes))  # type: ignore[arg-type]


def kept(database: Database) -> list[tuple[int, str, str, str | None]]:
    """Return every label there is, in order."""
    rows = query(database, "SELECT scan_id, label, reader, note FROM labels ORDER BY id")
    return [(row["scan_id"], row["label"], row["reader"], row["note"]) for row in rows]


def test_a_scan_is_named_by_id_file_name_or_hash(store: Store, database: Database) -> None:
    """All three name the same scan; the prefix may be short and in capitals."""
    scan_id = screened(store, "a.jpg", "a")
    screened(store, "b.jpg", "b")
    for name in (str(scan_id), "a.jpg", sha256("a"), sha256("a")[:8], sha256("a")[:12].upper()):
        given = Labels(database).give([ask(name)])
        assert (list(given.scan_ids), list(given.problems)) == ([scan_id], []), name


def test_later_labels_win_and_the_history_stays(store: Store, database: Database) -> None:
    """`results` shows the latest; the table keeps who said what, with the remark."""
    scan_id = screened(store, "a.jpg", "a")
    Labels(database).give([ask("a.jpg", "NORMAL", note="at night")])
    Labels(database).give([ask("a.jpg", "PNEUMONIA", reader="Dr. B")])
    assert kept(database) == [
        (scan_id, "NORMAL", "Dr. A", "at night"),
        (scan_id, "PNEUMONIA", "Dr. B", None),
    ]
    (row,) = query(database, "SELECT reader_label FROM results")
    assert row["reader_label"] == "PNEUMONIA"
    (film,) = Labels(database).for_training(FOLDERS)
    assert film.label == "PNEUMONIA"


def test_a_name_of_two_films_is_listed_and_nothing_is_done(
    store: Store, database: Database
) -> None:
    """The list tells them apart; the id then names one."""
    one, other = screened(store, "a.jpg", "a"), screened(store, "a.jpg", "b")
    given = Labels(database).give([ask("a.jpg")])
    (problem,) = given.problems
    for words in (f"scan {one} ", f"scan {other} ", sha256("a")[:12], sha256("b")[:12]):
        assert words in problem.why
    assert (list(given.scan_ids), kept(database)) == ([], [])
    assert Labels(database).give([ask(str(other))]).scan_ids == [other]


def test_a_file_name_that_is_also_an_id_is_a_question(store: Store, database: Database) -> None:
    """A film called like another scan's number could be either."""
    first = screened(store, "a.jpg", "a")
    screened(store, str(first), "b")
    (problem,) = Labels(database).give([ask(str(first))]).problems
    assert "matches" in problem.why


def test_an_id_that_is_nothing_else(store: Store, database: Database) -> None:
    """`id:1` is the first scan, whatever other films are called."""
    first = screened(store, "a.jpg", "a")
    for number, name in enumerate((str(first), f"id:{first}", "id:x.jpg")):
        screened(store, name, str(number))
    given = Labels(database).give([ask(f"id:{first}"), ask("id:x.jpg")])
    assert given.scan_ids == [first, first + 3]


def test_the_same_bytes_twice_are_one_film(store: Store, database: Database) -> None:
    """Both sightings get the label, and the night learns from the film once."""
    ids = [screened(store, "a.jpg", "same"), screened(store, "again.jpg", "same")]
    assert Labels(database).give([ask(sha256("same")[:10], "NORMAL")]).scan_ids == ids
    Labels(database).give([ask(str(ids[0]), "PNEUMONIA")])
    (film,) = Labels(database).for_training(FOLDERS)
    assert film.label == "PNEUMONIA"


def test_what_has_no_verdict_is_not_labelled(store: Store, database: Database) -> None:
    """A film that was refused, or is in hand, or was never seen, is a problem with its reason."""
    claims = store.claim(
        [sighting("bad.jpg", inode=1), sighting("in hand.jpg", inode=2)], lease_seconds=60
    ).claims
    bad = next(claim for claim in claims if claim.sighting.name == "bad.jpg")
    store.apply(Changes(outcomes=[refusal(bad)]))
    names = ("bad.jpg", "in hand.jpg", "nothing.jpg", "99", sha256("nothing"))
    given = Labels(database).give([ask(name) for name in names])
    assert [problem.why for problem in given.problems] == [
        f"scan {bad.scan_id} was refused (too_small)",
        "is not screened yet",
        *["no scan of that id, file name or SHA-256"] * 3,
    ]
    assert kept(database) == []


def test_one_bad_line_holds_back_all(store: Store, database: Database, tmp_path: Path) -> None:
    """Every line that cannot be used is listed by its number, and not one label is given."""
    for name in ("a", "b", "c"):
        screened(store, f"{name}.jpg", name)
    file = tmp_path / "labels.csv"
    file.write_text(
        "scan,label,by,note\n"
        "a.jpg,NORMAL,,\n"
        "nothing.jpg,NORMAL,,\n"
        "b.jpg,unsure,,\n"
        f"{sha256('a')[:9]},PNEUMONIA,,says otherwise\n"
        "c.jpg,pneumonia,Dr. B,seen twice\n",
        encoding="utf-8",
    )
    given = Labels(database).give(read_labels(file, by="Dr. A"))
    assert [problem.line for problem in given.problems] == [3, 4, 5]
    assert "line 2 gives the same film NORMAL" in given.problems[-1].why
    assert kept(database) == []
    good = [asked for asked in read_labels(file, by="Dr. A") if asked.line in (2, 6)]
    assert len(Labels(database).give(good).scan_ids) == 2
    assert [(label, reader, note) for _, label, reader, note in kept(database)] == [
        ("NORMAL", "Dr. A", None),
        ("PNEUMONIA", "Dr. B", "seen twice"),
    ]


def test_a_database_that_fails_half_way_keeps_nothing(store: Store, database: Database) -> None:
    """The labels are one transaction: the first are not there if the last could not be."""
    ids = [screened(store, f"{name}.jpg", name) for name in "abc"]
    inserts = 0

    def fail_at_the_third(*arguments: object) -> None:
        nonlocal inserts
        inserts += str(arguments[2]).startswith("INSERT INTO labels")
        if inserts == 3:
            raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        Labels(database).give([ask(str(scan_id)) for scan_id in ids])
    event.remove(database.engine, "before_cursor_execute", fail_at_the_third)
    assert inserts == 3
    assert kept(database) == []


def test_thousands_of_lines_are_given_at_once(store: Store, database: Database) -> None:
    """More names than one statement may bind are looked up all the same."""
    known = [screened(store, f"{number}.jpg", str(number)) for number in range(3)]
    names = [f"{number}.jpg" for number in range(3)] + [f"missing-{n}" for n in range(1200)]
    assert len(Labels(database).give([ask(name) for name in names]).problems) == 1200
    given = Labels(database).give([ask(names[number % 3]) for number in range(900)])
    assert set(given.scan_ids) == set(known)


def test_the_night_is_told_where_each_film_lies(store: Store, database: Database) -> None:
    """By the name they were filed under, bytes that are no UTF-8 too; or where they were kept."""
    screened(store, "caf\\xe9.jpg", "a")
    screened(store, "kept.jpg", "b", filed=False)
    screened(store, "/old/found.jpg", "c", filed=False)
    screened(store, "unlabelled.jpg", "d")
    screened(store, "twice.jpg", "e", filed=False)
    screened(store, "twice.jpg", "e")
    Labels(database).give(
        [ask(name) for name in ("caf\\xe9.jpg", "kept.jpg", "/old/found.jpg", "twice.jpg")]
    )
    told = Labels(database).for_training(FOLDERS)
    assert {film.sha256: (film.path, film.filed) for film in told} == {
        sha256("a"): (Path("archive/2026-11-23/caf\udce9.jpg"), True),
        sha256("b"): (Path("inbox/kept.jpg"), False),
        sha256("c"): (Path("/old/found.jpg"), False),
        sha256("e"): (Path("archive/2026-11-23/twice.jpg"), True),
    }


@pytest.mark.parametrize(
    "text",
    [
        "scan,label\na.jpg,NORMAL\n",
        "\ufeffscan_id;file_name;reader_label\r\na.jpg;ignored;normal\r\n\r\n",
        "Label,SHA256\nNormal, a.jpg \n",
    ],
)
def test_lists_are_read_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    """Commas or semicolons, a byte-order mark, other orders, capitals, spaces and empty lines."""
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode())
    (asked,) = read_labels(file, by="Dr. A", note="all")
    assert (asked.scan, asked.label, asked.reader, asked.note) == (
        *("a.jpg", "NORMAL", "Dr. A", "all"),
    )
    assert asked.line == 2


def test_a_list_of_ours_that_a_reader_filled_in(tmp_path: Path) -> None:
    """What the model said stands beside it and is nobody's label; the rest is still to be read."""
    file = tmp_path / "labels.csv"
    file.write_text(
        "scan_id,decision,label,reader_label\n1,REVIEW,PNEUMONIA,NORMAL\n2,,,\n3,NORMAL,NORMAL,\n"
    )
    (asked,) = read_labels(file, by="Dr. A")
    assert (asked.scan, asked.label) == ("id:1", "NORMAL")
    file.write_text("scan_id,label,reader_label\n1,PNEUMONIA,\n")
    with pytest.raises(DataError, match="the column 'reader_label' is empty"):
        read_labels(file, by="Dr. A")


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "no column 'scan'"), (b"scan,by\n1,me\n", "no column 'label'"), (b"\xff", "not UTF-8")],
)
def test_a_file_that_is_no_list_says_what_was_expected(
    tmp_path: Path, data: bytes, told: str
) -> None:
    """One sentence, naming the file."""
    file = tmp_path / "labels.csv"
    file.write_bytes(data)
    with pytest.raises(DataError, match=told):
        read_labels(file, by=None)
