"""A night: labelled films in, a model package out, promoted if it may serve.

    python -m training.retrain --data DIR [--models DIR] [--cache DIR] [--epochs N] [--seed N]

DIR holds `NORMAL` and `PNEUMONIA` folders of JPEGs, or `train`, `val` and `test` folders of those.
Says a line for each step and each epoch, and ends with the verdict. Exit code 0 when a model was
promoted or held, 1 when the run failed. A killed run, started again, goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.cache import Films, decode_films
from training.dataset import Dataset, LabelledScan, Side, read_dataset
from training.promotion import Floors, Promotion, judge_promotion
from training.report import write_card
from training.scoring import score
from worker.errors import LungwatchError, ModelPackageError
from worker.model import POSITIVE
from worker.registry import Registry
from worker.settings import read_settings

if TYPE_CHECKING:
    from training.evaluation import OperatingPoint
    from training.fit import Examples, Recipe
    from training.packaging import Exported

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
    floors: Floors = field(default_factory=Floors)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a night."""

    version: str
    package: Path
    promotion: Promotion
    evaluation: dict[str, Any]  # what evaluation.json holds


@dataclass(frozen=True, kw_only=True)
class _Made:
    exported: Exported
    point: OperatingPoint
    calibration_side: dict[str, Any]  # what the model makes of the films it was calibrated on
    training: dict[str, Any]  # for the manifest


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
    from training import packaging

    # The films, and the side each lies on.
    dataset = read_dataset(plan.data, salt=plan.salt)
    say(_describe(dataset))

    # Their pixels, decoded once.
    side = plan.side_pixels
    films = decode_films(dataset.scans, plan.cache, height=side, width=side)
    dataset = _without_refused(dataset, films, say)

    # The network, fitted, calibrated, and made into the file that serves.
    made = _make(plan, dataset, films, now=now, say=say)
    version = made.exported.version
    registry = Registry(plan.models)
    staged = packaging.stage(registry, made.exported, made.point, training=made.training, now=now)
    try:
        # How good it is: the files on disk, through the worker's code, in a process of its own.
        say(f"measuring {version} on {dataset.test_name}")
        evaluation = _measure(staged, dataset, made)

        # Whether it may serve.
        promotion = judge_promotion(evaluation, champion=registry.champion(), floors=plan.floors)

        # The record goes into the package, and the package into its place.
        card = write_card(version, evaluation, made.training, promotion.reasons)
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


def _make(plan: Plan, dataset: Dataset, films: Films, *, now: datetime, say: Say) -> _Made:
    import keras

    from training import evaluation, packaging
    from training.fit import Recipe, fit
    from training.network import Architecture, build_network, describe, shift_logit

    recipe = Recipe(epochs=plan.epochs, seed=plan.seed)
    architecture = Architecture(height=plan.side_pixels, width=plan.side_pixels)
    training = _provenance(plan, dataset, recipe, describe(architecture))
    keras.utils.clear_session()  # layers' names go into the served file: let them start at one
    keras.utils.set_random_seed(plan.seed)
    network = build_network(architecture)
    calibration = _examples(dataset, films, Side.CALIBRATION)
    say(f"fitting {network.count_params():,} weights, {plan.epochs} epochs")
    curve = fit(
        network,
        _examples(dataset, films, Side.TRAIN),
        calibration,
        recipe,
        scratch=_scratch(plan.cache, training),
        say=say,
    )

    # The calibration's shift goes into the network's bias, its temperature into the manifest.
    truth = calibration.labels > 0.5
    raw = network.predict(calibration.pixels[..., np.newaxis], verbose=0)["logit"][:, 0]
    scale = evaluation.fit_calibration(truth, raw.astype(np.float64))
    shift_logit(network, scale.shift)
    exported = packaging.export(network, now=now)
    logits = packaging.litert_logits(exported.served, calibration.pixels).astype(np.float64)
    aims = evaluation.Aims()
    point = evaluation.choose_operating_point(
        truth, logits, temperature=scale.temperature, aims=aims
    )
    training |= {
        "aims": asdict(aims),
        "minutes": sum(epoch["seconds"] for epoch in curve) / 60,
        "curve": curve,
    }
    return _Made(
        exported=exported,
        point=point,
        calibration_side=evaluation.evaluate(truth, logits, point),
        training=training,
    )


def _provenance(
    plan: Plan, dataset: Dataset, recipe: Recipe, architecture: dict[str, Any]
) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "counts": dataset.counts(),
        "salt": plan.salt,
        "recipe": asdict(recipe),
        "architecture": architecture,
        "prevalence": 0.5,  # that the probabilities are calibrated for
    }


def _scratch(cache: Path, training: dict[str, Any]) -> Path:
    """Name the folder in which this very run can go on, and sweep those of others."""
    digest = hashlib.sha256(json.dumps(training, sort_keys=True).encode()).hexdigest()
    folder = cache / f"fit-{digest[:16]}"
    for other in cache.glob("fit-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _examples(dataset: Dataset, films: Films, side: Side) -> Examples:
    from training.fit import Examples

    scans = dataset.side(side)
    return Examples(
        pixels=films.select(scans),
        labels=_truth(scans).astype(np.float32),
    )


def _truth(scans: Sequence[LabelledScan]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([scan.label == POSITIVE for scan in scans], dtype=np.bool_)


def _measure(package: Path, dataset: Dataset, made: _Made) -> dict[str, Any]:
    from training import evaluation

    scans = dataset.side(Side.TEST)
    scores = score(package, [scan.path for scan in scans])
    refused = [scan.name for scan, got in zip(scans, scores, strict=True) if isinstance(got, str)]
    if refused:  # what was readable for the cache is readable for the worker: one function reads
        raise ModelPackageError(f"{len(refused)} test films were refused, {refused[0]} first")
    logits = np.array(scores, dtype=np.float64)
    return {
        "version": made.exported.version,
        "data": dataset.test_name,
        "data_note": dataset.test_note,
        "data_digest": dataset.digest,
        **evaluation.evaluate(_truth(scans), logits, made.point),
        "calibration_side": made.calibration_side,
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
    chosen = parser.parse_args(arguments)
    models = read_settings().models if chosen.models is None else chosen.models
    return Plan(**{**vars(chosen), "models": models})


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
