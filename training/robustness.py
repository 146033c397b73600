"""Measures a package on disturbed films: the same test films, changed in one way at a time.

    python -m training.robustness PACKAGE... TREE [--whole-tree] [--originals DIR]
    python -m training.robustness PACKAGE... TREE --swapped [--crops 0.83,0.8 | --native-sizes FILE]

Prints a table: AUC, sensitivity and specificity on the test films of TREE, undisturbed and after
each disturbance, and the number of films that are then REVIEW or refused. Test films are those in
TREE's `test` folder and those of patients that the package's split assigned to the test side; with
`--whole-tree`, all films. `--originals DIR` has films of which TREE has copies with the same names:
it shows how well the answers agree. One core does about one full-size film a second, or twenty
small ones.

`--swapped` prints another table: films with framing and grey levels of the other class, and zoomed
ones. The crops follow from the sizes of the training films, given by a table or by their files, or
from `--crops`. One core does about twenty small films a second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.card.reach import robustness_table
from training.card.shift import shifts_table
from training.data.cache import FilmFile
from training.data.native_sizes import Size, native_sizes, read_native_sizes, unlisted
from training.data.seen_films import why_not
from training.data.sources import CLASSES, find_films
from training.data.splits import LabelledScan, Shares, Side, split
from training.evaluate.head_to_head import is_positive
from training.evaluate.metrics import OperatingPoint, Scores, Truth, auc
from training.evaluate.paired import Reading, auc_difference
from training.evaluate.reframed import Framing, framing_of
from training.evaluate.scoring import (
    UNTOUCHED,
    Scored,
    ScoreDisturbed,
    score,
    score_disturbed,
)
from training.evaluate.shifts import SEED, measure_shifts
from training.io import read_again
from worker.errors import DataError, FilmRefused, LungwatchError, ModelPackageError
from worker.model.decision import REVIEW, Score, Verdict, judge
from worker.model.evaluation import Disturbed, Estimate, FilmCounts, Metrics, Robustness
from worker.model.manifest import Manifest, read_manifest

FILMS_A_NIGHT = 150  # of each class, to keep a night short


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well a package's answers on original films and on copies agree."""

    pairs: int  # with both films readable
    refused: int
    same_decision: float | None  # share of the pairs; None without pairs
    same_label: float | None
    median_difference: float | None  # of the probabilities
    largest_difference: float | None

    def __str__(self) -> str:
        """Return it in a sentence or two."""
        refused = f" {self.refused} were refused and left out." if self.refused else ""
        if not self.pairs:
            return f"No original could be read together with its copy.{refused}"
        return (
            f"Of {self.pairs} originals and their copies, {self.same_decision:.1%} get the same "
            f"decision, {self.same_label:.1%} the same label; the probabilities differ by "
            f"{self.median_difference:.4f} in the median and {self.largest_difference:.4f} at "
            f"most.{refused}"
        )


@dataclass(frozen=True, kw_only=True)
class _Films:
    """The films of a tree."""

    every: Sequence[LabelledScan]
    test: Sequence[LabelledScan]  # to measure on
    donors: Sequence[LabelledScan]  # whose grey levels and sizes are those of their class


def measure(
    package: Path,
    scans: Sequence[LabelledScan],
    *,
    most: int | None = None,
    score_disturbed: ScoreDisturbed = score_disturbed,
) -> Robustness:
    """Measure a package on films, undisturbed and after each disturbance.

    Args:
        package: loaded as in the worker, in separate processes.
        scans: the test films, of both classes.
        most: films of each class, chosen by their content; None for all.
        score_disturbed: scores them.

    Returns:
        The metrics of the label, undisturbed and after each disturbance, with the AUC's difference
        from the same films undisturbed (paired DeLong, 95 %). None for what cannot be computed.

    Raises:
        ModelPackageError: the package is not fit to serve, or an output is not finite.
    """
    chosen = choose(scans, most=most)
    digests = [scan.sha256 for scan in chosen]
    scored = score_disturbed(package, [scan.path for scan in chosen], digests)
    truth, manifest = is_positive(chosen), read_manifest(package)
    answers = {
        name: [None if isinstance(one, str) else _answer(one, manifest) for one in scores]
        for name, scores in scored.items()
    }
    before = answers.pop(UNTOUCHED)
    return Robustness(
        films=_count(chosen),
        of=_count(scans),
        untouched=_numbers(truth, before, manifest),
        disturbed={
            name: _numbers(truth, after, manifest, since=before) for name, after in answers.items()
        },
    )


def choose(scans: Sequence[LabelledScan], *, most: int | None) -> list[LabelledScan]:
    """Return `most` films of each class, always the same ones of the same films."""
    chosen: list[LabelledScan] = []
    for label in CLASSES:
        films = sorted(
            (scan for scan in scans if scan.label == label), key=lambda scan: scan.sha256
        )
        chosen += films[:most]
    return chosen


def agree(package: Path, originals: Path, copies: Sequence[Path]) -> Agreement:
    """Compare a package's answers on originals and on their copies.

    Args:
        package: loaded as in the worker.
        originals: a folder with films, at any depth.
        copies: films; those with an original's name count.

    Raises:
        DataError: no copy has an original.
        ModelPackageError: the package is not fit to serve.
    """
    by_name = {path.name: path for path in copies}
    pairs = [
        (path, by_name[path.name])
        for path in sorted(originals.rglob("*"))
        if path.name in by_name and path.is_file()
    ]
    if not pairs:
        raise DataError(f"no film in {originals} has the name of one in the tree")
    films = [film for pair in pairs for film in pair]
    (scored,) = score([package], films)
    if scored.error:
        raise ModelPackageError(scored.error)
    answers = _answers(scored, read_manifest(package))
    both = [
        (one, other)
        for one, other in zip(answers[::2], answers[1::2], strict=True)
        if one is not None and other is not None
    ]
    gaps = [abs(one.probability - other.probability) for one, other in both]
    return Agreement(
        pairs=len(both),
        refused=len(pairs) - len(both),
        same_decision=_mean([one.decision == other.decision for one, other in both]),
        same_label=_mean([one.label == other.label for one, other in both]),
        median_difference=float(np.median(gaps)) if gaps else None,
        largest_difference=max(gaps, default=None),
    )


def _answers(scored: Scored, manifest: Manifest) -> list[Verdict | None]:
    """Return the worker's verdicts; None for films that it would refuse."""
    strange = iter(scored.strangeness)
    answers: list[Verdict | None] = []
    for logit in _logits(scored.scores):
        if not np.isfinite(logit):
            answers.append(None)
            continue
        answers.append(_answer(Score(logit=float(logit), strangeness=next(strange)), manifest))
    return answers


def _answer(score: Score, manifest: Manifest) -> Verdict | None:
    """Return the worker's verdict; None for a film that it would refuse."""
    try:
        return judge(score, manifest)
    except FilmRefused:
        return None


def _mean(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _count(scans: Sequence[LabelledScan]) -> FilmCounts:
    return {label: sum(scan.label == label for scan in scans) for label in CLASSES}


def _logits(scores: Sequence[float | str]) -> Scores:
    """Return logits, NaN for refused films."""
    logits = np.array([np.nan if isinstance(one, str) else one for one in scores], dtype=np.float64)
    refused = np.array([isinstance(one, str) for one in scores], dtype=np.bool_)
    if not np.isfinite(logits[~refused]).all():
        raise ModelPackageError("the model gave a logit that is not finite")
    return logits


def _logits_of(answers: Sequence[Verdict | None]) -> Scores:
    """Return logits, NaN for refused films."""
    return np.array([np.nan if one is None else one.logit for one in answers], dtype=np.float64)


def _numbers(
    truth: Truth,
    answers: Sequence[Verdict | None],
    manifest: Manifest,
    *,
    since: Sequence[Verdict | None] | None = None,
) -> Disturbed:
    logits = _logits_of(answers)
    read = np.isfinite(logits)
    of_read, reading = truth[read], Reading.of(logits[read], OperatingPoint.of(manifest))
    both = bool(of_read.any() and not of_read.all())
    return Disturbed(
        auc=auc(of_read, logits[read]).value if both else None,
        sensitivity=_mean(reading.called[of_read].tolist()),
        specificity=_mean((~reading.called[~of_read]).tolist()),
        review=sum(one is not None and one.decision == REVIEW for one in answers),
        refused=answers.count(None),
        difference=None if since is None else _change(truth, _logits_of(since), logits),
    )


def _change(truth: Truth, before: Scores, after: Scores) -> Estimate | None:
    read = np.isfinite(before) & np.isfinite(after)
    if not truth[read].any() or truth[read].all():
        return None
    return auc_difference(truth[read], before[read], after[read]).estimate()


def _test_films(tree: Path, package: Path, *, whole: bool) -> _Films:
    """Return the films of a tree."""
    found = find_films([tree]).films
    salt = str(read_manifest(package).training.get("salt") or "")
    if not salt and not whole:
        raise DataError(
            f"{package.name} has no salt of its split: use --whole-tree if no film trained it"
        )
    scans = split(found, salt=salt, shares=Shares())
    test = [scan for scan in scans if whole or scan.side is Side.TEST]
    if not whole and (learnt := why_not(package, test)):
        raise DataError(f"{learnt} of {tree}: patients were split differently in training")
    missing = [label for label, count in _count(test).items() if not count]
    if missing:
        raise DataError(f"no {' and no '.join(missing)} film of {tree} is on the test side")
    apart = [scan for scan in scans if scan.path.is_relative_to(tree / "train")]
    rest = [scan for scan in scans if scan.side is not Side.TEST]
    return _Films(every=scans, test=test, donors=apart or ([] if whole else rest) or scans)


def _framing(films: _Films, crops: tuple[float, float] | None, sizes: Path | None) -> Framing:
    """Return how films are cropped, as the command line has it."""
    if crops is not None:
        return Framing.fixed(normal_height=crops[0], pneumonia_width=crops[1])
    listed = {} if sizes is None else read_native_sizes(sizes)
    unlisted(films.every, listed)
    stored: dict[str, Size] = {}
    for scan in films.donors if sizes is None else ():
        with suppress(FilmRefused):  # its header shows no size
            stored[scan.sha256] = FilmFile.of(read_again(scan.path, scan.sha256)).size
    return framing_of(films.donors, native_sizes(films.donors, listed=listed, stored=stored))


def _under_shift(package: Path, films: _Films, framing: Framing, seed: int) -> str:
    """Return the table of a package on changed films."""
    (under,), _ = measure_shifts([package], films.test, films.donors, framing, seed=seed)
    if under.error:
        raise ModelPackageError(under.error)
    counts = " and ".join(f"{count} {label}" for label, count in _count(films.test).items())
    return (
        f"{package.resolve().name}, {counts} films\n\n"
        f"{shifts_table(under.shifts, under.within(Metrics()))}\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m training.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", type=Path, nargs="+", help="folders of model packages")
    parser.add_argument("tree", type=Path, help="class-per-folder tree of films")
    parser.add_argument("--whole-tree", action="store_true", help="measure on all its films")
    parser.add_argument("--originals", type=Path, help="films of which the tree has copies")
    parser.add_argument(
        "--swapped", action="store_true", help="measure on swapped and zoomed films"
    )
    crops = parser.add_mutually_exclusive_group()
    crops.add_argument(
        "--crops", type=_crops, help="kept of the height of NORMAL, of the width of PNEUMONIA"
    )
    crops.add_argument("--native-sizes", type=Path, help="CSV of file_name, width and height")
    parser.add_argument("--seed", type=_seed, default=SEED, help="of the draw of films to tone by")
    asked = parser.parse_args(arguments)
    try:
        for package in asked.packages:
            films = _test_films(asked.tree, package, whole=asked.whole_tree)
            if asked.swapped:
                framing = _framing(films, asked.crops, asked.native_sizes)
                sys.stdout.write(f"{_under_shift(package, films, framing, asked.seed)}\n")
                continue
            sys.stdout.write(f"{robustness_table(measure(package, films.test))}\n")
            if asked.originals is not None:
                copies = [scan.path for scan in films.every]
                sys.stdout.write(f"\n{agree(package, asked.originals, copies)}\n")
    except LungwatchError as error:
        sys.stdout.write(f"error: {error}\n")
        return 1
    return 0


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _crops(text: str) -> tuple[float, float]:
    try:
        height, width = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two shares like 0.83,0.8") from None
    if not (0 < height <= 1 and 0 < width <= 1):
        raise argparse.ArgumentTypeError(f"{text}: a share lies above 0 and is 1 at most")
    return height, width


if __name__ == "__main__":
    sys.exit(main())
