"""Which films a model has learnt from, kept in its package, so that none of them ever tests it.

    learnt.npy   (n,) uint64, ascending: the first eight bytes of each film's SHA-256
                 (m,) uint64, behind it, likewise: of those that the weights were trained on

None of the second calibrates a model that goes on from these weights: it would be too sure of them.
Earlier packages, and earlier code that reads these, know the first alone.

Sides are by patient and salt, but what a data folder looks like has a say in them too: films that
trained a model lie on the test side once its folder is handed in without its `test` folder. A hash
of a film's bytes tells nothing to whoever has not got the film.
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
    """Marks of films, ascending."""

    learnt: _Array  # (n,) that weights, threshold and limits are learnt from
    trained: _Array | None  # (m,) that the weights are; None where nobody knows


def marks_of(scans: Iterable[LabelledScan], *, since: Path | None = None) -> Marks:
    """Return marks of the films that a model is learnt from.

    Where it goes on from a package that does not tell what its weights were trained on, all that
    this has learnt from counts as such, but for the films that calibrate again.

    Args:
        scans: of a night, of all sides.
        since: the package whose weights it goes on from: what that has learnt from counts too.

    Raises:
        ModelPackageError: what that package has learnt from cannot be read.
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
    """Return what `read` reads."""
    buffer = io.BytesIO()
    np.save(buffer, marks.learnt, allow_pickle=False)
    if marks.trained is not None:
        np.save(buffer, marks.trained, allow_pickle=False)
    return buffer.getvalue()


def read(package: Path) -> Marks | None:
    """Return the marks in a package; None where it keeps none.

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
    """Return why these test films cannot test a package; "" where they can, or nobody knows.

    Raises:
        ModelPackageError: what it has learnt from cannot be read.
    """
    marks = read(package)
    if marks is None:
        return ""
    asked = _marks(scans)
    known = int(np.isin(asked, marks.learnt).sum())
    return f"{package.name} has learnt from {known} of the {len(asked)} test films" if known else ""


def why_not_calibrate(package: Path, scans: Iterable[LabelledScan]) -> str:
    """Return why these films cannot calibrate what goes on from a package; "" likewise.

    Raises:
        ModelPackageError: what it has learnt from cannot be read.
    """
    marks = read(package)
    if marks is None or marks.trained is None:
        return ""
    asked = _marks(scans)
    known = int(np.isin(asked, marks.trained).sum())
    if not known:
        return ""
    return f"{package.name} was trained on {known} of the {len(asked)} films that calibrate tonight"


def _marks(scans: Iterable[LabelledScan]) -> _Array:
    return np.array([int(scan.sha256[:16], 16) for scan in scans], dtype=np.uint64)
