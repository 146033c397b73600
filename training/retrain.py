"""A night: labelled films in, a model package out, promoted if it may serve.

    python -m training.retrain --data DIR [--models DIR] [--cache DIR] [--epochs N] [--seed N]

DIR holds `NORMAL` and `PNEUMONIA` folders of JPEGs, or `train`, `val` and `test` folders of those.
Says a line for each step and each epoch, and ends with the verdict. Exit code 0 when a model was
promoted or held, 1 when the run failed. A killed run, started again, goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.cache import Films, decode_films
from training.dataset import Dataset, Side, read_dataset
from training.promotion import Floors, Promotion, Rules, judge_promotion
from training.report import write_card
from training.scoring import score
from worker.errors import LungwatchError, ModelPackageError
from worker.registry import Registry
from worker.settings import read_settings

if TYPE_CHECKING:
    from training.production import Product

# Keras, TensorFlow and scikit-learn are imported by the step that needs them: a run that stops at
# its data has not waited for them, and the processes that decode films never load them.
# ruff: noqa: PLC0415

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a night was asked to do."""

    data: Path
    models: Path
    cache: Path
    epochs: int = 40
    seed: int = 20
    side_pixels: int = 128  # height and width of the network's input
    salt: str = "lungwatch"  # decides the split of patients; the same for good
    population: str = ""  # whose films these are, for the model card
    test_note: str = ""  # how the test side came about, in place of what can be seen of it
    floors: Floors = field(default_factory=Floors)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a night."""

    version: str
    package: Path
    promotion: Promotion
    evaluation: dict[str, Any]  # what evaluation.json holds


def retrain(plan: Plan, *, now: datetime, say: Say) -> Outcome:
    """Train, package, measure and judge one model.

    Args:
        plan: what to do.
        now: UTC; names the version and dates the package.
        say: is given a line for each step.

    Raises:
        DataError: the films cannot be trained on as they are.
        RegistryError: the very same model is there already.
        ModelPackageError: the package does not load as the worker would load it.
    """
    # The films, and the side each lies on.
    dataset = read_dataset(plan.data, salt=plan.salt)
    dataset = replace(dataset, test_note=plan.test_note or dataset.test_note)
    say(_describe(dataset))

    # Their pixels, decoded once.
    side = plan.side_pixels
    films = decode_films(dataset.scans, plan.cache, height=side, width=side)
    dataset = _without_refused(dataset, films, say)

    # The network, fitted, calibrated, and made into the file that serves.
    from training import packaging
    from training.fit import Recipe
    from training.production import produce

    product = produce(
        dataset,
        films,
        recipe=Recipe(epochs=plan.epochs, seed=plan.seed),
        side_pixels=side,
        salt=plan.salt,
        scratch_root=plan.cache,
        now=now,
        say=say,
    )
    version = product.exported.version
    training = {**product.training, "population": plan.population}
    registry = Registry(plan.models)
    staged = packaging.stage(registry, product.exported, product.point, training=training, now=now)
    try:
        # How good it is: the files on disk, through the worker's code, in a process of its own.
        say(f"measuring {version} on {dataset.test_name}")
        evaluation = _measure(staged, dataset, product)

        # Whether it may serve.
        promotion = judge_promotion(
            evaluation, champion=registry.champion(), rules=Rules(floors=plan.floors)
        )

        # The record goes into the package, and the package into its place.
        card = write_card(version, evaluation, training, promotion.reasons)
        record = {"evaluation.json": packaging.to_json(evaluation), "card.md": card.encode()}
        packaging.add_files(staged, record)
        package = registry.publish(staged, version)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if promotion.promote:
        registry.promote(version)
    return Outcome(version=version, package=package, promotion=promotion, evaluation=evaluation)


def _describe(dataset: Dataset) -> str:
    sides = ", ".join(
        f"{side} {counts['NORMAL']} NORMAL + {counts['PNEUMONIA']} PNEUMONIA "
        f"of {counts['patients']} patients"
        for side, counts in dataset.counts().items()
    )
    return f"{dataset.name}: {sides}; {len(dataset.copies_set_aside)} exact copies set aside"


def _without_refused(dataset: Dataset, films: Films, say: Say) -> Dataset:
    """Leave out what `read_film` refuses: the worker would not score it either."""
    refused = [scan for scan in dataset.scans if scan.sha256 in films.refused]
    for scan in refused:
        say(f"set aside: {scan.name} is refused as {films.refused[scan.sha256]}")
    kept = tuple(scan for scan in dataset.scans if scan.sha256 not in films.refused)
    return replace(dataset, scans=kept)


def _measure(package: Path, dataset: Dataset, product: Product) -> dict[str, Any]:
    from training.evaluation import evaluate
    from training.production import is_positive

    scans = dataset.side(Side.TEST)
    scores = score(package, [scan.path for scan in scans])
    refused = [scan.name for scan, got in zip(scans, scores, strict=True) if isinstance(got, str)]
    if refused:  # what was readable for the cache is readable for the worker: one function reads
        raise ModelPackageError(f"{len(refused)} test films were refused, {refused[0]} first")
    logits = np.array(scores, dtype=np.float64)
    return {
        "version": product.exported.version,
        "data": dataset.test_name,
        "data_note": dataset.test_note,
        "data_digest": dataset.digest,
        **evaluate(is_positive(scans), logits, product.point),
        "calibration_side": product.calibration_side,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and the settings, and run one night."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on its own build
    try:
        plan = _read_plan(arguments)
        outcome = retrain(plan, now=datetime.now(UTC), say=_say)
    except LungwatchError as error:
        _say(f"error: {error}")
        return 1
    numbers = outcome.evaluation
    _say(
        f"{outcome.version}: AUC {numbers['auc']:.4f}, sensitivity {numbers['sensitivity']:.4f}, "
        f"specificity {numbers['specificity']:.4f} on {numbers['data']}"
    )
    for reason in outcome.promotion.reasons:
        _say(f"  {reason}")
    _say(f"{'promoted' if outcome.promotion.promote else 'held'}: {outcome.package}")
    return 0


def _read_plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m training.retrain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="class-per-folder films")
    parser.add_argument("--models", type=Path, help="the registry; else LUNGWATCH_MODELS")
    parser.add_argument(
        "--cache", type=Path, default=Path("var/cache"), help="decoded films, harmless to delete"
    )
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument(
        "--side-pixels", type=int, default=Plan.side_pixels, help="of the network's square input"
    )
    parser.add_argument("--salt", default=Plan.salt, help="of the split; keep it for good")
    parser.add_argument(
        "--population", default="", help="whose films these are, in a sentence for the model card"
    )
    parser.add_argument(
        "--test-note", default="", help="how the test films were chosen, in a sentence likewise"
    )
    chosen = parser.parse_args(arguments)
    models = read_settings().models if chosen.models is None else chosen.models
    return Plan(**{**vars(chosen), "models": models})


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
