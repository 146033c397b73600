"""Which films a model has learnt from, kept in its package, so that none of them ever tests it.

    learnt.npy   (n,) uint64, ascending: the first eight bytes of each film's SHA-256

Sides are by patient and salt, but what a data folder looks like has a say in them too: films that
trained a model lie on the test side once its folder is handed in without its `test` folder. A hash
of a film's bytes tells nothing to whoever has not got the film.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.splits import LabelledScan, Side
from worker.errors import ModelPackageError

LEARNT = "learnt.npy"

Marks = npt.NDArray[np.uint64]


def marks_of(scans: Iterable[LabelledScan], *, since: Path | None = None) -> Marks:
    """Return (n,) marks of the films that weights, threshold and limits are learnt from.

    Args:
        scans: of a night, of all sides.
        since: the package whose weights it goes on from: what that has learnt from counts too.

    Raises:
        ModelPackageError: what that package has learnt from cannot be read.
    """
    ours = [_mark(scan) for scan in scans if scan.side is not Side.TEST]
    before = None if since is None else read(since)
    marks = np.array(ours, dtype=np.uint64)
    return np.unique(marks if before is None else np.concatenate([marks, before]))


def to_bytes(marks: Marks) -> bytes:
    """Return what `read` reads."""
    buffer = io.BytesIO()
    np.save(buffer, marks, allow_pickle=False)
    return buffer.getvalue()


def read(package: Path) -> Marks | None:
    """Return the marks in a package; None where it keeps none.

    Raises:
        ModelPackageError: they cannot be read.
    """
    try:
        marks: Marks = np.load(package / LEARNT, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise ModelPackageError(f"{package.name}: cannot read {LEARNT}: {error}") from error
    return marks


def why_not(package: Path, scans: Iterable[LabelledScan]) -> str:
    """Return why these test films cannot test a package; "" where they can, or nobody knows.

    Raises:
        ModelPackageError: what it has learnt from cannot be read.
    """
    marks = read(package)
    if marks is None:
        return ""
    asked = np.array([_mark(scan) for scan in scans], dtype=np.uint64)
    known = int(np.isin(asked, marks).sum())
    return f"{package.name} has learnt from {known} of the {len(asked)} test films" if known else ""


def _mark(scan: LabelledScan) -> int:
    return int(scan.sha256[:16], 16)
