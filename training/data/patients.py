"""Finds the patient of a film, so that all films of a patient stay on one side of a split.

In this order: a list by file name or SHA-256; a pattern in the file name; the four series of names
in the public data set; else a film is its own patient.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from worker.errors import DataError

# The four series of names in the public data set. Numbers of different series are unrelated.
_SERIES = {
    "bacteria": re.compile(r"^person(\d+)_bacteria_"),
    "virus": re.compile(r"^person(\d+)_virus_"),
    "IM": re.compile(r"^IM-(\d+)-"),
    "NORMAL2-IM": re.compile(r"^NORMAL2-IM-(\d+)-"),
}
_LISTED = 20  # invalid lines listed in an error
_ALONE = "film-"  # prefix of a film that is its own patient


@dataclass(frozen=True, kw_only=True)
class Patients:
    """How to find a film's patient."""

    pattern: re.Pattern[str] | None = None  # searched in the file name; its group is the patient
    listed: Mapping[str, str] = field(default_factory=dict)  # file name or SHA-256 -> patient

    def lists(self, file_name: str, sha256: str) -> bool:
        """Whether the list names a film."""
        return sha256 in self.listed or file_name in self.listed

    def of(self, file_name: str, sha256: str) -> str:
        r"""Return the patient of a film, or the film itself.

        >>> Patients().of("person7_virus_12.jpeg", "ab")
        'virus-7'
        >>> Patients().of("person7_bacteria_24.jpeg", "cd")
        'bacteria-7'
        >>> Patients(pattern=re.compile(r"^(\d+)_")).of("4711_chest.jpeg", "ef")
        'patient-4711'
        >>> Patients().of("scan.jpeg", "01")
        'film-01'
        """
        if patient := self.listed.get(sha256) or self.listed.get(file_name):
            return f"patient-{patient}"
        if self.pattern is not None and (match := self.pattern.search(file_name)):
            patient = match["patient"] if "patient" in self.pattern.groupindex else match[1]
            if patient:
                return f"patient-{patient}"
        for series, pattern in _SERIES.items():
            if match := pattern.match(file_name):
                return f"{series}-{int(match[1])}"
        return f"{_ALONE}{sha256}"


def series_of(patient: str) -> str | None:
    """Return the series of names that a patient's key is from, or None.

    >>> series_of("NORMAL2-IM-7"), series_of("patient-7")
    ('NORMAL2-IM', None)
    """
    series, _, number = patient.rpartition("-")
    return series if series in _SERIES and number.isdigit() else None


def is_alone(patient: str) -> bool:
    """Whether this is the key of a film without a known patient."""
    return patient.startswith(_ALONE)


def read_pattern(text: str) -> re.Pattern[str] | None:
    """Compile the pattern of the settings; None if it is empty.

    Raises:
        DataError: it is not a regular expression, or has no group for the patient.
    """
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(f"the patient pattern {text!r} is not a valid regex: {error}") from None
    if not pattern.groups:
        raise DataError(f"the patient pattern {text!r} has no group: put () around the patient")
    return pattern


def read_patients(path: Path) -> dict[str, str]:
    """Read a CSV of two columns: file name or SHA-256, and patient. A header line is skipped.

    Raises:
        DataError: it cannot be read, or has invalid lines; these are listed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(text.splitlines(), delimiter=_delimiter(text)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the patients in {path}: {error}") from error
    listed: dict[str, str] = {}
    problems = []
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1].lower() == "patient"):
            continue
        if len(cells) != 2 or not all(cells):
            problems.append(f"line {number}: expected a film and its patient")
            continue
        film, patient = cells
        if re.fullmatch(r"[0-9a-fA-F]{64}", film):
            film = film.lower()
        if listed.setdefault(film, patient) != patient:
            problems.append(f"line {number}: an earlier line gives {film} to {listed[film]}")
    if problems:
        more = [f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else []
        lines = "\n  ".join([*problems[:_LISTED], *more])
        raise DataError(f"the patients in {path} have invalid lines:\n  {lines}")
    return listed


def _delimiter(text: str) -> str:
    head = text.partition("\n")[0]
    return ";" if head.count(";") > head.count(",") else ","
