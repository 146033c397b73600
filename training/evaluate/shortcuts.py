"""Measures how well the class of a film can be predicted from traces that are not disease.

Traces are a film's size, its encoder, its grey levels and its rim. A network trained on films whose
class follows from traces learns them too, and does worse on films from other sites.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from training.data.cache import FilmFile, Films
from training.data.native_sizes import Size, Sizes
from training.data.sources import CLASSES
from training.data.splits import LabelledScan
from training.evaluate.head_to_head import is_positive
from training.evaluate.metrics import Truth, auc
from worker.imaging.preprocessing import Pixels, resize
from worker.model.evaluation import TRACES, Shortcuts, Trace

MOST_FILMS: Final = 5000  # audited, which takes a minute at most
_FOLDS = 5
_LEAST_FILMS = 50  # of each class, at least
_SIDE_PIXELS = 128  # of the films in the audit
_RIM = 0.1  # of each side
_RIM_COMPONENTS = 60
_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_TABLE_BYTES = 65  # of a quantisation table: its number and 64 values

_UNKNOWN_SIZES = "the native sizes of the films are not known: see --native-sizes"
_ONE_ENCODER = "all files were written in the same way"
_FEW = f"fewer than {_LEAST_FILMS} films or {_FOLDS} patients of a class"

_Floats = npt.NDArray[np.float32]
_Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # rows to fit on, rows left out


@dataclass(frozen=True, kw_only=True)
class AuditedFilms:
    """The data of the audit, in one order of films."""

    pixels: Pixels  # (n, height, width) uint8
    truth: Truth  # (n,)
    patients: Sequence[str]
    sizes: Sequence[Size | None]  # native; None if not known
    files: Sequence[FilmFile]

    @classmethod
    def of(
        cls, scans: Sequence[LabelledScan], films: Films, sizes: Sizes, *, most: int = MOST_FILMS
    ) -> AuditedFilms:
        """Take up to `most` films, chosen by their content.

        Args:
            scans: the films.
            films: their pixels, and facts of their files.
            sizes: native sizes by SHA-256, as far as known.
            most: the largest number of films.
        """
        chosen = sorted(scans, key=lambda scan: scan.sha256)[:most]
        pixels = np.empty((len(chosen), _SIDE_PIXELS, _SIDE_PIXELS), np.uint8)
        for place, scan in enumerate(chosen):
            film = films.pixels[films.rows[scan.sha256]]
            pixels[place] = resize(film, height=_SIDE_PIXELS, width=_SIDE_PIXELS)
        return cls(
            pixels=pixels,
            truth=is_positive(chosen),
            patients=[scan.patient for scan in chosen],
            sizes=[sizes.get(scan.sha256) for scan in chosen],
            files=[films.files[scan.sha256] for scan in chosen],
        )


def audit(films: AuditedFilms, *, seed: int) -> Shortcuts:
    """Return how well each trace predicts the class, for patients that were left out of the fit.

    Gradient boosting (scikit-learn's HistGradientBoostingClassifier with its defaults) in five
    folds by patient. The AUC is of all films, each scored by the fit that left its patient out. A
    trace that cannot be measured has the reason instead.

    Args:
        films: of both classes.
        seed: of the folds and the principal components.
    """
    count, patients = len(films.truth), np.array(films.patients, dtype=np.str_)
    sized = np.array([size is not None for size in films.sizes], dtype=np.bool_)
    missing: dict[str, str] = {}  # trace -> why it is not measured
    if _too_few(films.truth, patients):
        missing = dict.fromkeys(TRACES, _FEW)
    elif not sized.any():
        missing["size"] = _UNKNOWN_SIZES
    elif _too_few(films.truth[sized], patients[sized]):
        missing["size"] = f"native sizes are known of {_FEW}"
    if "encoder" not in missing and len({file.encoding for file in films.files}) < 2:
        missing["encoder"] = _ONE_ENCODER
    known = dict.fromkeys(TRACES, np.ones(count, dtype=np.bool_))  # rows with this trace
    if "size" not in missing:
        known |= dict.fromkeys(("size", "outside", "all"), sized)
    scores = {name: np.full(count, np.nan) for name in TRACES if name not in missing}
    if scores:
        with threadpool_limits(1):  # more threads would only wait for one another
            _score(films, scores, known, sized="size" in scores, seed=seed)
    return Shortcuts(
        films=_counts(films.truth),
        patients=len(set(films.patients)),
        traces={
            name: _trace(films.truth[known[name]], scores[name][known[name]])
            if name in scores
            else Trace(not_measured=missing[name])
            for name in TRACES
        },
    )


def not_audited(reason: str) -> Shortcuts:
    """Return the result of an audit that was not done."""
    return Shortcuts(traces={name: Trace(not_measured=reason) for name in TRACES})


def _score(
    films: AuditedFilms,
    scores: dict[str, npt.NDArray[np.float64]],
    known: dict[str, Truth],
    *,
    sized: bool,
    seed: int,
) -> None:
    """Fill in each film's score from each trace, by fits on films of other patients."""
    plain = {"size": _sizes(films.sizes), "encoder": _encoders(films.files)}
    plain["grey_levels"] = _grey_levels(films.pixels)
    rim_pixels = _rims(films.pixels)
    plain["rim_levels"] = _levels(rim_pixels)
    rims = rim_pixels.astype(np.float32)
    size = ["size"] if sized else []
    for learnt, left_out in _folds(films, seed):
        # Components are fitted in each fold, without the films that they are tested on.
        components = PCA(
            min(_RIM_COMPONENTS, len(learnt)), svd_solver="randomized", random_state=seed
        ).fit(rims[learnt])
        seen = plain | {"rim": components.transform(rims).astype(np.float32)}
        seen["outside"] = np.hstack([seen[name] for name in [*size, "rim", "rim_levels"]])
        seen["all"] = np.hstack([seen[name] for name in [*size, "grey_levels", "rim"]])
        for name, score in scores.items():
            fitted_on, judged_by = (rows[known[name][rows]] for rows in (learnt, left_out))
            if len(judged_by) and len(set(films.truth[fitted_on])) == len(CLASSES):
                booster = HistGradientBoostingClassifier(random_state=seed)
                booster.fit(seen[name][fitted_on], films.truth[fitted_on])
                score[judged_by] = booster.decision_function(seen[name][judged_by])


def _folds(films: AuditedFilms, seed: int) -> Iterator[_Fold]:
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    yield from folds.split(films.truth, films.truth, groups=np.array(films.patients))


def _too_few(truth: Truth, patients: npt.NDArray[np.str_]) -> bool:
    return any(
        side.sum() < _LEAST_FILMS or len(set(patients[side])) < _FOLDS for side in (truth, ~truth)
    )


def _trace(truth: Truth, scores: npt.NDArray[np.float64]) -> Trace:
    if not np.isfinite(scores).all():  # a fold had only one class to fit on
        return Trace(not_measured=_FEW)
    return Trace(auc=auc(truth, scores).value, films=_counts(truth))


def _counts(truth: Truth) -> dict[str, int]:
    return dict(zip(CLASSES, (int((~truth).sum()), int(truth.sum())), strict=True))


def _sizes(sizes: Sequence[Size | None]) -> _Floats:
    """Return (n, 3): width, height and aspect ratio; NaN if not known."""
    rows = [(np.nan,) * 3 if size is None else (*size, size.aspect_ratio) for size in sizes]
    return np.array(rows, dtype=np.float32)


def _encoders(files: Sequence[FilmFile]) -> _Floats:
    """Return (n, 67): the first quantisation table, the length of all, and a number of the encoder.

    The number stands for everything else that an encoder writes into all its files.
    """
    numbers = {encoding: n for n, encoding in enumerate(sorted({f.encoding for f in files}))}
    rows = np.full((len(files), _TABLE_BYTES + 2), np.nan, dtype=np.float32)
    for row, file in zip(rows, files, strict=True):
        tables = bytes.fromhex(file.quantisation)
        first = tables[:_TABLE_BYTES]
        row[: len(first)] = list(first)
        row[-2:] = len(tables), numbers[file.encoding]
    return rows


def _grey_levels(pixels: Pixels) -> _Floats:
    """Return (n, 13): statistics of all pixels, and mean absolute gradients down and across."""
    gradients = [
        [np.abs(np.diff(film.astype(np.float32), axis=axis)).mean() for axis in (0, 1)]
        for film in pixels
    ]
    return np.hstack([_levels(pixels.reshape(len(pixels), -1)), np.array(gradients, np.float32)])


def _levels(pixels: npt.NDArray[np.uint8]) -> _Floats:
    """Return (n, 11) of (n, pixels): mean, deviation and nine percentiles."""
    rows = [[film.mean(), film.std(), *np.percentile(film, _PERCENTILES)] for film in pixels]
    return np.array(rows, dtype=np.float32)


def _rims(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Return (n, pixels of the rim): the outer tenth of each side."""
    height, width = pixels.shape[1:]
    down, across = round(_RIM * height), round(_RIM * width)
    rim = np.ones((height, width), dtype=np.bool_)
    rim[down : height - down, across : width - across] = False
    return pixels[:, rim]
