"""Whose film it is: told by a list, by a pattern, by the public data set's names, or by nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.patients import Patients, read_patients, read_pattern
from worker.errors import DataError


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person7_bacteria_24.jpeg", "bacteria-7"),
        ("person7_virus_12.jpeg", "virus-7"),
        ("person7_virus_12_1.jpeg", "virus-7"),
        ("IM-0115-0001.jpeg", "IM-115"),
        ("IM-0115-0001-0002.jpeg", "IM-115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-115"),
        ("scan_115.jpeg", "film-hash"),
        ("my person7_virus_12.jpeg", "film-hash"),
    ],
)
def test_patient_is_series_and_number(name: str, patient: str) -> None:
    """The same number in two series is two patients; a name that tells none is its own."""
    assert Patients().of(name, "hash") == patient


def test_a_pattern_finds_the_patient_by_its_group() -> None:
    """The group named `patient` if there is one, else the first; else the series, else the film."""
    first = Patients(pattern=read_pattern(r"^(\d+)_"))
    named = Patients(pattern=read_pattern(r"(ward|home)-(?P<patient>\d+)"))
    assert first.of("4711_chest.jpeg", "a") == "patient-4711"
    assert named.of("x-ward-4711.jpeg", "a") == "patient-4711"
    assert first.of("IM-0115-0001.jpeg", "a") == "IM-115"
    assert first.of("chest.jpeg", "a") == "film-a"


def test_a_list_counts_before_a_pattern(tmp_path: Path) -> None:
    """By hash, whatever the film is called, or by name; with or without a line of heads."""
    digest = "ab" * 32
    file = tmp_path / "patients.csv"
    for head in ("", "film,patient\n"):
        file.write_text(f"{head}{digest.upper()},Ann\n 1_b.jpeg , Ben \n\n", encoding="utf-8-sig")
        patients = Patients(pattern=read_pattern(r"^(\d+)_"), listed=read_patients(file))
        assert patients.of("1_a.jpeg", digest) == "patient-Ann"
        assert patients.of("1_b.jpeg", "cd" * 32) == "patient-Ben"
        assert patients.of("1_c.jpeg", "cd" * 32) == "patient-1"


def test_lines_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    """One film of two patients, or a line without a patient: all are told by their numbers."""
    file = tmp_path / "patients.csv"
    file.write_text("a.jpeg,Ann\nb.jpeg\na.jpeg,Ben\nc.jpeg,\na.jpeg,Ann\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_patients(file)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["line 2", "line 3", "line 4"]
    with pytest.raises(DataError, match="cannot read"):
        read_patients(tmp_path / "nothing.csv")


@pytest.mark.parametrize(("text", "told"), [("(", "not a valid regex"), (r"\d+", "no group")])
def test_a_pattern_that_cannot_work_is_refused(text: str, told: str) -> None:
    """It is told at once, not by a split that puts every film by itself."""
    with pytest.raises(DataError, match=told):
        read_pattern(text)
    assert read_pattern("") is None
