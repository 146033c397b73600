"""What must not be learnt from as it is: films on two sides, or with two labels.

A night stops at them with a list. Told to, it sets them aside instead, and says which.
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

_LISTED = 20  # of the conflicts found, how many an error lists
_WORTH = [Side.TEST, Side.CALIBRATION, Side.TRAIN]  # what is kept rather than what follows it


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Films that contradict one another."""

    why: str
    films: Sequence[LabelledScan]  # all that are meant
    aside: Sequence[LabelledScan]  # those to go, if the night is to go on

    def __str__(self) -> str:
        """A line for a person."""
        return f"{self.why}: {', '.join(film.name for film in self.films)}"


def find_conflicts(scans: Sequence[LabelledScan]) -> list[Conflict]:
    """Return what can be seen without decoding: the same bytes, and the owners' splits."""
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
    """Return those that an owner left outside a test folder, if others were put into one."""
    if not any(scan.owner is Owner.TEST for scan in films):
        return []
    return [scan for scan in films if scan.owner is Owner.TRAIN]


def find_near_conflicts(
    scans: Sequence[LabelledScan], pixels: Pixels, rows: dict[str, int]
) -> list[Conflict]:
    """Return near copies on two sides, or with two labels.

    Args:
        scans: those of one SHA-256 lie on one side and have one label.
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
    """Return the scans that can be learnt from, and a line for each that was set aside.

    Args:
        scans: all of them.
        conflicts: among them.
        drop: set aside what contradicts, in place of stopping.

    Raises:
        DataError: there are conflicts and nothing may be set aside. The message lists them.
    """
    if conflicts and not drop:
        more = [f"and {len(conflicts) - _LISTED} more"] if len(conflicts) > _LISTED else []
        listed = "\n  ".join([*map(str, conflicts[:_LISTED]), *more])
        raise DataError(
            f"these films cannot be trained on as they are; mend them, or set them aside with "
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
