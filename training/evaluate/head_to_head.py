"""Measure a challenger, and the champion beside it, on the same test films.

What is measured is the packages as they lie on disk, by the worker's code, in a fresh process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from training.data.dataset import LabelledScan
from training.data.seen_films import why_not
from training.evaluate.edge_evidence import summarise
from training.evaluate.metrics import OperatingPoint, Scores, Truth, evaluate
from training.evaluate.paired import Reading, compare
from training.evaluate.scoring import ScoreAll, Scored, score
from training.evaluate.subgroups import break_down
from worker.errors import ModelPackageError
from worker.model.evaluation import (
    EdgeEvidence,
    Groups,
    LostFilm,
    Metrics,
    PairedComparison,
    Unfamiliar,
)
from worker.model.manifest import POSITIVE, Manifest, read_manifest


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the test films say of a challenger, and of the champion beside it."""

    scans: Sequence[LabelledScan]  # the test films, in the order of the arrays
    truth: Truth  # (n,)
    challenger: Reading
    point: OperatingPoint  # of the challenger
    numbers: Metrics  # of the challenger
    groups: Groups  # the same, by group
    evidence_outside: EdgeEvidence | None  # None where it is not known
    unfamiliar: Unfamiliar | None  # None without limits of the familiar
    comparison: PairedComparison | None  # None where no champion could be measured
    lost: Sequence[int]  # rows of the films the champion has right and the challenger wrong
    trouble: str  # why the champion could not be measured, if it could not
    settled: bool  # whether that, if anything, is of the films, and will be so tomorrow


def judge(
    challenger: Path,
    champion: Path | None,
    scans: Sequence[LabelledScan],
    *,
    score: ScoreAll = score,
) -> Judged:
    """Measure both packages on these films.

    Args:
        challenger: the package made tonight.
        champion: what serves; None for nothing.
        scans: the test films.
        score: what scores them.

    Raises:
        ModelPackageError: the challenger does not load or refuses a film, or one was replaced.
        DataError: a class is missing, or a logit of the challenger is not finite.
    """
    learnt, trouble = "", ""
    if champion is not None:
        try:
            learnt = why_not(champion, scans)
        except ModelPackageError as error:
            trouble = str(error)
    beside = champion if not (learnt or trouble) else None
    packages = [challenger] if beside is None else [challenger, beside]
    scored = score(packages, [scan.path for scan in scans], [scan.sha256 for scan in scans])
    ours = _Heard.of(challenger, scored[0], scans)
    theirs: _Heard | None = None
    if beside is not None:
        try:
            theirs = _Heard.of(beside, scored[1], scans)
        except ModelPackageError as error:
            trouble = str(error)
    truth = is_positive(scans)
    lost = [] if theirs is None else _lost(truth, theirs.reading, ours.reading)
    return Judged(
        scans=scans,
        truth=truth,
        challenger=ours.reading,
        point=ours.point,
        numbers=ours.evaluate(truth),
        groups=break_down(
            truth,
            ours.reading,
            patients=[scan.patient for scan in scans],
            sizes=scored[0].sizes,
        ),
        evidence_outside=summarise(scored[0].outside),
        unfamiliar=_unfamiliar(ours),
        comparison=None if theirs is None else _compare(truth, scans, theirs, ours, lost=lost),
        lost=lost,
        trouble=learnt or trouble,
        settled=not trouble,
    )


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What one package says of the test films."""

    manifest: Manifest
    point: OperatingPoint
    logits: Scores  # (n,)
    reading: Reading
    unfamiliar: Truth | None  # (n,) beyond the inner limit of the familiar; None without limits
    refused: Truth | None  # (n,) beyond the outer one

    @classmethod
    def of(cls, package: Path, scored: Scored, scans: Sequence[LabelledScan]) -> Self:
        """Take in what a package's scores say.

        Raises:
            ModelPackageError: it does not load, refuses a film, or gives what is not finite.
        """
        logits = _logits(scored, scans)
        manifest = read_manifest(package)
        point = OperatingPoint.of(manifest)
        limits = manifest.familiar
        unfamiliar = _beyond(scored, None if limits is None else limits.review)
        return cls(
            manifest=manifest,
            point=point,
            logits=logits,
            reading=Reading.of(logits, point, unfamiliar=unfamiliar),
            unfamiliar=unfamiliar,
            refused=_beyond(scored, None if limits is None else limits.refuse),
        )

    def evaluate(self, truth: Truth) -> Metrics:
        """Return the package's own numbers on the films."""
        return evaluate(
            truth, self.logits, self.point, unfamiliar=self.unfamiliar, refused=self.refused
        )


def _compare(
    truth: Truth,
    scans: Sequence[LabelledScan],
    champion: _Heard,
    challenger: _Heard,
    *,
    lost: Sequence[int],
) -> PairedComparison:
    """Return what the test films say of both; `lost` are rows."""
    both = champion.reading, challenger.reading
    compared = compare(truth, [scan.patient for scan in scans], *both)
    return compared.model_copy(
        update={
            "champion": champion.manifest.version,
            "champion_numbers": champion.evaluate(truth),
            "lost_films": [_describe(scans[row], row, *both) for row in lost],
        }
    )


def _lost(truth: Truth, champion: Reading, challenger: Reading) -> list[int]:
    """Return the rows of the films that the champion has right and the challenger wrong."""
    lost = (champion.called == truth) & (challenger.called != truth)
    return [int(row) for row in np.flatnonzero(lost)]


def is_positive(scans: Sequence[LabelledScan]) -> Truth:
    """Return (n,) bool, True for PNEUMONIA, in the order of the scans."""
    return np.array([scan.label == POSITIVE for scan in scans], dtype=np.bool_)


def digest_of(scans: Sequence[LabelledScan]) -> str:
    """Name a set of test films, by their content and labels, in whatever order."""
    lines = sorted(f"{scan.sha256} {scan.label}\n" for scan in scans)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _beyond(scored: Scored, limit: float | None) -> Truth | None:
    """Return (n,) whether a film is farther from chest films than a limit; None without one."""
    if limit is None or not scored.strangeness:
        return None
    # Written so that NaN, of which the worker decides nothing, is not decided here either.
    beyond: Truth = ~(np.array(scored.strangeness, dtype=np.float64) <= limit)
    return beyond


def _unfamiliar(heard: _Heard) -> Unfamiliar | None:
    """Return the shares of the films beyond the limits of the familiar; None without limits."""
    if heard.unfamiliar is None or heard.refused is None:
        return None
    refused = float(heard.refused.mean())
    return Unfamiliar(refused=refused, review=float(heard.unfamiliar.mean()) - refused)


def _logits(scored: Scored, scans: Sequence[LabelledScan]) -> Scores:
    if scored.error:
        raise ModelPackageError(scored.error)
    names = zip(scans, scored.scores, strict=True)
    refused = [scan.sha256[:12] for scan, got in names if isinstance(got, str)]
    if refused:  # what was readable for the cache is readable for the worker: one function reads
        raise ModelPackageError(f"{len(refused)} test films were refused, {refused[0]} first")
    logits = np.array(scored.scores, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ModelPackageError("the model gave a logit that is not finite")
    return logits


def _describe(scan: LabelledScan, row: int, champion: Reading, challenger: Reading) -> LostFilm:
    """Describe a film by its content's hash: its name could tell whose it is."""
    return LostFilm(
        sha256=scan.sha256,
        label=scan.label,
        champion=float(champion.probability[row]),
        challenger=float(challenger.probability[row]),
    )
