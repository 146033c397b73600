"""Conflicts that must not be trained on: films on two sides, or with two labels.

By default a night stops and lists them. With `--drop-conflicts` it sets them aside and names them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.near_duplicates import near_copies
from training.data.sources import Owner
from training.data.splits import LabelledScan, Side
from worker.errors import DataError
from worker.imaging.preprocessing import Pixels

_LISTED = 20  # conflicts listed in an error
_WORTH = [Side.TEST, Side.CALIBRATION, Side.TRAIN]  # in order of preference to be kept


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Films that contradict one another."""

    why: str
    films: Sequence[LabelledScan]  # all films concerned
    aside: Sequence[LabelledScan]  # those to set aside

    def __str__(self) -> str:
        """Return a line for people."""
        return f"{self.why}: {', '.join(film.name for film in self.films)}"


def find_conflicts(scans: Sequence[LabelledScan]) -> list[Conflict]:
    """Return conflicts that show without decoding: equal bytes, and owners' splits."""
    conflicts = []
    for copies in _grouped(scans, lambda scan: scan.sha256):
        if len({scan.label for scan in copies}) > 1:
            conflicts.append(Conflict(why="one film with two labels", films=copies, aside=copies))
        elif len({scan.side for scan in copies}) > 1:
            conflicts.append(_on_two_sides("one film", copies))
        elif left := _left_outside_test(copies):
            conflicts.append(
                Conflict(why="one film in test and outside it", films=copies, aside=left)
            )
    for films in _grouped(scans, lambda scan: scan.patient):
        left = _left_outside_test(films)
        if left and len({scan.sha256 for scan in films}) > 1:
            why = f"patient {films[0].patient} in test and outside it"
            conflicts.append(Conflict(why=why, films=films, aside=left))
    return conflicts


def _left_outside_test(films: Sequence[LabelledScan]) -> list[LabelledScan]:
    """Return the films that an owner left outside a test folder, if others are in one."""
    if not any(scan.owner is Owner.TEST for scan in films):
        return []
    return [scan for scan in films if scan.owner is Owner.TRAIN]


def find_near_conflicts(
    scans: Sequence[LabelledScan], pixels: Pixels, rows: dict[str, int]
) -> list[Conflict]:
    """Return near copies that are on two sides or have two labels.

    Args:
        scans: those with one SHA-256 are on one side and have one label.
        pixels: (n, height, width) uint8.
        rows: SHA-256 -> row of `pixels`.
    """
    copies: dict[str, list[LabelledScan]] = defaultdict(list)
    for scan in scans:
        copies[scan.sha256].append(scan)
    chosen = [films for digest, films in copies.items() if digest in rows]
    chosen.sort(key=lambda films: films[0].name)
    conflicts = []
    pairs = near_copies(pixels, [rows[films[0].sha256] for films in chosen])
    for one, other, correlation in pairs:
        films = [*chosen[one], *chosen[other]]
        alike = f"near copies (detail alike by {correlation:.2f})"
        if len({scan.label for scan in films}) > 1:
            conflicts.append(Conflict(why=f"{alike} with two labels", films=films, aside=films))
        elif len({scan.side for scan in films}) > 1:
            conflicts.append(_on_two_sides(alike, films))
    return conflicts


def settle(
    scans: Sequence[LabelledScan], conflicts: Sequence[Conflict], *, drop: bool
) -> tuple[list[LabelledScan], tuple[str, ...]]:
    """Return the scans to train on, and a line for each scan that was set aside.

    Args:
        scans: all of them.
        conflicts: among them.
        drop: set conflicting films aside instead of stopping.

    Raises:
        DataError: there are conflicts and `drop` is not set. The message lists them.
    """
    if conflicts and not drop:
        more = [f"and {len(conflicts) - _LISTED} more"] if len(conflicts) > _LISTED else []
        listed = "\n  ".join([*map(str, conflicts[:_LISTED]), *more])
        raise DataError(
            f"these films contradict one another; correct them, or set them aside with "
            f"--drop-conflicts:\n  {listed}"
        )
    aside: dict[Path, str] = {}
    for conflict in conflicts:
        for scan in conflict.aside:
            aside.setdefault(scan.path, f"set aside: {scan.name}, for {conflict}")
    return [scan for scan in scans if scan.path not in aside], tuple(aside.values())


def _on_two_sides(what: str, films: Sequence[LabelledScan]) -> Conflict:
    sides = sorted({scan.side for scan in films}, key=_WORTH.index)
    others = [scan for scan in films if scan.side is not sides[0]]
    return Conflict(why=f"{what} in {' and in '.join(sides)}", films=films, aside=others)


def _grouped(
    scans: Iterable[LabelledScan], key: Callable[[LabelledScan], str]
) -> list[list[LabelledScan]]:
    groups: dict[str, list[LabelledScan]] = defaultdict(list)
    for scan in scans:
        groups[key(scan)].append(scan)
    return [group for group in groups.values() if len(group) > 1]
