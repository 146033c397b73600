"""Near copies across sides or labels stop a night, or are set aside and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import draw, jpeg
from pixels import pixels_of

from training.data.dataset import Dataset, read_dataset
from training.data.leakage import find_near_conflicts
from training.data.sources import Owner
from training.data.splits import LabelledScan, Side
from worker.errors import DataError
from worker.imaging.preprocessing import Pixels

SIDES = [Side.TRAIN, Side.CALIBRATION, Side.TEST]


def scan(number: int, side: Side, label: str) -> LabelledScan:
    """Return a labelled scan with no file behind it."""
    return LabelledScan(
        path=Path(f"{number}.jpeg"),
        name=f"{number}.jpeg",
        label=label,
        sha256=f"{number:064}",
        patient=f"film-{number}",
        side=side,
        owner=Owner.NOTHING,
    )


@pytest.fixture
def dataset() -> Dataset:
    """Two films of each class on each side, as found."""
    scans = [
        scan(number, SIDES[number % 3], ("NORMAL", "PNEUMONIA")[number // 6])
        for number in range(12)
    ]
    return Dataset(
        name="d",
        test_name="d",
        test_note="",
        scans=tuple(scans),
        copies_set_aside=(),
        remarks=("before",),
        digest="digest",
    )


def decoded(copies: dict[int, int]) -> Pixels:
    """Draw twelve films, some of them others saved again."""
    films = [
        jpeg(draw(copies.get(number, number)), quality=60 if number in copies else 90)
        for number in range(12)
    ]
    return np.stack([pixels_of(film, height=64, width=64) for film in films])


ROWS = {f"{number:064}": number for number in range(12)}


@pytest.mark.parametrize(
    ("copy", "of", "told", "gone"),
    [
        (5, 3, "in test and in train", "3.jpeg"),
        (1, 5, "in test and in calibration", "1.jpeg"),
        (6, 7, "in calibration and in train", "6.jpeg"),
    ],
)
def test_near_copies_on_two_sides(
    dataset: Dataset, copy: int, of: int, told: str, gone: str
) -> None:
    """They stop; dropped, the film on the side that is worth less goes."""
    pixels = decoded({copy: of})
    with pytest.raises(DataError, match=told) as caught:
        dataset.without_near_copies(pixels, ROWS)
    assert f"{copy}.jpeg" in str(caught.value)
    assert f"{of}.jpeg" in str(caught.value)
    dropped = dataset.without_near_copies(pixels, ROWS, drop_conflicts=True)
    assert {s.name for s in dataset.scans} - {s.name for s in dropped.scans} == {gone}
    assert dropped.remarks[0] == "before"
    assert dropped.remarks[1].startswith(f"set aside: {gone}, for near copies")
    assert dropped.digest == dataset.digest


def test_near_copies_with_two_labels(dataset: Dataset) -> None:
    """Also on one side: nobody knows which label is right, so both go."""
    pixels = decoded({6: 0})
    with pytest.raises(DataError, match="with two labels"):
        dataset.without_near_copies(pixels, ROWS)
    dropped = dataset.without_near_copies(pixels, ROWS, drop_conflicts=True)
    assert {s.name for s in dataset.scans} - {s.name for s in dropped.scans} == {
        "0.jpeg",
        "6.jpeg",
    }


def test_near_copies_on_one_side_are_films_like_any_other(dataset: Dataset) -> None:
    """They leak nothing, and nothing is said of them."""
    assert dataset.without_near_copies(decoded({3: 0}), ROWS) == dataset


def test_films_without_pixels_are_not_looked_at(dataset: Dataset) -> None:
    """What was refused has no row, and an owner's exact copies in test have one together."""
    pixels = decoded({5: 3})
    rows = {digest: row for digest, row in ROWS.items() if row != 3}
    assert dataset.without_near_copies(pixels, rows) == dataset
    twice = replace(dataset.scans[5], name="again.jpeg", path=Path("again.jpeg"))
    (conflict,) = find_near_conflicts([*dataset.scans, twice], pixels, ROWS)
    assert len(conflict.films) == 3


def test_an_owners_exact_copies_go_together(dataset: Dataset) -> None:
    """Of a test film with two labels, which lies there twice, neither is measured on."""
    twice = replace(dataset.scans[2], name="again.jpeg", path=Path("again.jpeg"))
    both = replace(dataset, scans=(*dataset.scans, twice))
    assert twice.side is Side.TEST
    dropped = both.without_near_copies(decoded({8: 2}), ROWS, drop_conflicts=True)
    gone = {one.name for one in both.scans} - {one.name for one in dropped.scans}
    assert gone == {"2.jpeg", "8.jpeg", "again.jpeg"}


def test_the_public_data_has_no_near_copies_across_sides(data: Path) -> None:
    """A quarter of the real films, as split by their owner and by the hash: nothing to list."""
    real = read_dataset(data / "chest_xray", salt="lungwatch")
    some = real.scans[::4]
    pixels = np.stack([pixels_of(s.path.read_bytes(), height=64, width=64) for s in some])
    rows = {s.sha256: row for row, s in enumerate(some)}
    assert find_near_conflicts(some, pixels, rows) == []
