"""Measures a challenger, and the champion, on the same test films.

The packages on disk are measured, with the worker's code, in a fresh process.
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
    """The results of a challenger and of the champion on the test films."""

    scans: Sequence[LabelledScan]  # the test films, in the order of the arrays
    truth: Truth  # (n,)
    challenger: Reading
    point: OperatingPoint  # of the challenger
    numbers: Metrics  # of the challenger
    groups: Groups  # the same, by group
    evidence_outside: EdgeEvidence | None  # None if not known
    unfamiliar: Unfamiliar | None  # None without familiarity limits
    comparison: PairedComparison | None  # None if no champion was measured
    lost: Sequence[int]  # rows of the films the champion has right and the challenger wrong
    trouble: str  # why the champion could not be measured, or ""
    settled: bool  # whether a repeat would give the same result


def judge(
    challenger: Path,
    champion: Path | None,
    scans: Sequence[LabelledScan],
    *,
    score: ScoreAll = score,
) -> Judged:
    """Measure both packages on these films.

    Args:
        challenger: the package made by this night.
        champion: the package that serves; None for none.
        scans: the test films.
        score: scores them.

    Raises:
        ModelPackageError: the challenger does not load or refuses a film, or a film was replaced.
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
    ours = _Answers.of(challenger, scored[0], scans)
    theirs: _Answers | None = None
    if beside is not None:
        try:
            theirs = _Answers.of(beside, scored[1], scans)
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
class _Answers:
    """The answers of one package on the test films."""

    manifest: Manifest
    point: OperatingPoint
    logits: Scores  # (n,)
    reading: Reading
    unfamiliar: Truth | None  # (n,) over the review limit; None without limits
    refused: Truth | None  # (n,) over the refusal limit

    @classmethod
    def of(cls, package: Path, scored: Scored, scans: Sequence[LabelledScan]) -> Self:
        """Convert a package's scores.

        Raises:
            ModelPackageError: it does not load, refuses a film, or gives a number not finite.
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
        """Return the package's metrics on the films."""
        return evaluate(
            truth, self.logits, self.point, unfamiliar=self.unfamiliar, refused=self.refused
        )


def _compare(
    truth: Truth,
    scans: Sequence[LabelledScan],
    champion: _Answers,
    challenger: _Answers,
    *,
    lost: Sequence[int],
) -> PairedComparison:
    """Return the comparison of both packages; `lost` are rows."""
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
    """Return a digest of a set of test films and their labels, independent of their order."""
    lines = sorted(f"{scan.sha256} {scan.label}\n" for scan in scans)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _beyond(scored: Scored, limit: float | None) -> Truth | None:
    """Return (n,) whether a film's strangeness is over a limit; None without one."""
    if limit is None or not scored.strangeness:
        return None
    # Written so that NaN counts as over the limit.
    beyond: Truth = ~(np.array(scored.strangeness, dtype=np.float64) <= limit)
    return beyond


def _unfamiliar(answers: _Answers) -> Unfamiliar | None:
    """Return the shares of the films over the familiarity limits; None without limits."""
    if answers.unfamiliar is None or answers.refused is None:
        return None
    refused = float(answers.refused.mean())
    return Unfamiliar(refused=refused, review=float(answers.unfamiliar.mean()) - refused)


def _logits(scored: Scored, scans: Sequence[LabelledScan]) -> Scores:
    if scored.error:
        raise ModelPackageError(scored.error)
    names = zip(scans, scored.scores, strict=True)
    refused = [scan.sha256[:12] for scan, got in names if isinstance(got, str)]
    if refused:  # the cache read them too
        raise ModelPackageError(f"{len(refused)} test films were refused, first {refused[0]}")
    logits = np.array(scored.scores, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ModelPackageError("the model gave a logit that is not finite")
    return logits


def _describe(scan: LabelledScan, row: int, champion: Reading, challenger: Reading) -> LostFilm:
    """Describe a film by its SHA-256, because its name could identify the patient."""
    return LostFilm(
        sha256=scan.sha256,
        label=scan.label,
        champion=float(champion.probability[row]),
        challenger=float(challenger.probability[row]),
    )
