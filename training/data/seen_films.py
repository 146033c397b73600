"""The films a model was trained on, kept in its package, so that they never test it.

    learnt.npy   (n,) uint64, ascending: the first eight bytes of each film's SHA-256
                 (m,) uint64, after it, likewise: only films that the weights were trained on

Films of the second array must not calibrate a model that starts from these weights, because it
would be overconfident on them. Older packages and older code have only the first array.

Sides depend on patient and salt, but also on the layout of a data folder: training films become
test films if a folder is passed without its `test` folder. The hash reveals nothing about a film to
someone who does not have it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.splits import LabelledScan, Side
from worker.errors import ModelPackageError

LEARNT = "learnt.npy"

_Array = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Marks of films (the first eight bytes of the SHA-256), ascending."""

    learnt: _Array  # (n,) films behind weights, threshold and limits
    trained: _Array | None  # (m,) films behind the weights; None if unknown


def marks_of(scans: Iterable[LabelledScan], *, since: Path | None = None) -> Marks:
    """Return the marks of the films that a model is made from.

    If it starts from a package that does not record what its weights were trained on, all films of
    that package count as such, except those that calibrate again.

    Args:
        scans: of a night, of all sides.
        since: the package whose weights it starts from; its films count too.

    Raises:
        ModelPackageError: that package's marks cannot be read.
    """
    scans = list(scans)
    trained = np.unique(_marks(scan for scan in scans if scan.side is Side.TRAIN))
    calibrated = _marks(scan for scan in scans if scan.side is Side.CALIBRATION)
    learnt = np.union1d(trained, calibrated)
    before = None if since is None else read(since)
    if before is None:
        return Marks(learnt=learnt, trained=trained)
    theirs = before.trained
    if theirs is None:
        theirs = np.setdiff1d(before.learnt, calibrated)
    return Marks(learnt=np.union1d(learnt, before.learnt), trained=np.union1d(trained, theirs))


def to_bytes(marks: Marks) -> bytes:
    """Return the content of `learnt.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, marks.learnt, allow_pickle=False)
    if marks.trained is not None:
        np.save(buffer, marks.trained, allow_pickle=False)
    return buffer.getvalue()


def read(package: Path) -> Marks | None:
    """Return the marks in a package; None if it has none.

    Raises:
        ModelPackageError: they cannot be read.
    """
    try:
        file = io.BytesIO((package / LEARNT).read_bytes())
        learnt: _Array = np.load(file, allow_pickle=False)
        there = file.tell() < len(file.getbuffer())
        trained: _Array | None = np.load(file, allow_pickle=False) if there else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise ModelPackageError(f"{package.name}: cannot read {LEARNT}: {error}") from error
    return Marks(learnt=learnt, trained=trained)


def why_not(package: Path, scans: Iterable[LabelledScan]) -> str:
    """Return why these test films cannot test a package; "" if they can, or it is unknown.

    Raises:
        ModelPackageError: the package's marks cannot be read.
    """
    marks = read(package)
    if marks is None:
        return ""
    asked = _marks(scans)
    known = int(np.isin(asked, marks.learnt).sum())
    return f"{package.name} was made from {known} of the {len(asked)} test films" if known else ""


def why_not_calibrate(package: Path, scans: Iterable[LabelledScan]) -> str:
    """Return why these films cannot calibrate a model that starts from a package; "" if they can.

    Raises:
        ModelPackageError: the package's marks cannot be read.
    """
    marks = read(package)
    if marks is None or marks.trained is None:
        return ""
    asked = _marks(scans)
    known = int(np.isin(asked, marks.trained).sum())
    if not known:
        return ""
    return f"{package.name} was trained on {known} of the {len(asked)} calibration films"


def _marks(scans: Iterable[LabelledScan]) -> _Array:
    return np.array([int(scan.sha256[:16], 16) for scan in scans], dtype=np.uint64)
