"""From decoded films to a fitted and calibrated model package that is not evaluated yet.

Only the train and calibration sides are used here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.data.cache import Films
from training.data.dataset import Dataset, Side
from training.data.native_sizes import native_sizes
from training.data.seen_films import marks_of
from training.evaluate.head_to_head import is_positive
from training.evaluate.metrics import OperatingPoint, evaluate
from training.evaluate.operating_point import (
    Aims,
    affordable,
    choose_operating_point,
    fit_calibration,
)
from training.evaluate.reframed import Framing, framing_of
from training.fit.batches import Examples, InOrder
from training.fit.calibration import CalibrationFilms
from training.fit.network import Architecture, build_network, describe, shift_logit
from training.fit.trainer import FitLimits, Fitted, Recipe, fit
from training.fit.warm_start import Start, choose_start, from_scratch
from training.io import needed
from training.night.calibration import read_calibration_films
from training.night.options import Plan
from training.night.other_patients import OtherFilms, find_other_films
from training.night.record import code_digest
from training.night.state import Night
from training.package import build, familiarity
from worker.errors import ModelPackageError, RegistryError
from worker.model.evaluation import Metrics
from worker.model.population import Population
from worker.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Made:
    """A package that is not evaluated yet."""

    version: str
    package: Path  # staged; or published by a night killed before its verdict
    training: dict[str, Any]  # the manifest's `training`
    calibration_side: Metrics  # its metrics on the films it was calibrated on


def make_package(night: Night) -> Made:
    """Fit a network on the train side, calibrate it, and stage it as a package.

    Raises:
        DataError: the loss is not finite, a side lacks a class, or a file cannot be written.
    """
    plan, dataset, registry, say = night.plan, night.dataset, night.registry, night.say
    architecture = Architecture.of(plan.side_pixels)
    start = _start(plan, dataset, registry, architecture)
    recipe = Recipe.starting(
        from_weights=start.weights is not None, epochs=plan.epochs, seed=plan.seed
    )
    sizes = native_sizes(dataset.scans, listed=plan.native_sizes, stored=night.films.sizes)
    framing = framing_of(dataset.side(Side.TRAIN), sizes)
    inputs = {
        "data": dataset.name,
        "data_digest": dataset.digest,
        "counts": dataset.counts(),
        "salt": plan.salt,
        "from": start.version,  # the version whose weights it starts from; None for new ones
        "recipe": asdict(recipe),
        "architecture": describe(architecture),
        "prevalence": 0.5,  # assumed by the probabilities
        "framing": asdict(framing),  # the crops that give films the framing of the other class
    }
    scratch = _scratch(plan.scratch, inputs)
    train = _examples(dataset, night.films, Side.TRAIN)
    calibration = _calibration(night, framing, scratch)
    population = _population(plan, registry)
    others = find_other_films(plan, registry, population)
    network = _first_network(architecture, start, recipe)
    say(f"fitting {network.count_params():,} weights {start.why}, {recipe.epochs} epochs at most")
    fitted = fit(
        network,
        train,
        calibration,
        recipe,
        scratch=scratch,
        say=say,
        limits=FitLimits(
            stop_at=time.monotonic() + 60 * plan.max_minutes, tensorboard=plan.tensorboard
        ),
    )
    say(f"fitted: {fitted.ended}; the weights are those of epoch {fitted.epoch}")
    finished = _finish(network, train, calibration, others, now=night.now)
    training = {
        **inputs,
        "aims": asdict(finished.aims),
        "familiar": finished.familiarity.facts,
        "other_patients": dict(others.facts),
        "backend": keras.backend.backend(),
        **_course(fitted),
        "population": plan.population_note,
    }
    version = finished.exported.version
    night.record.note(training=training, challenger=version)
    package = registry.folder(version)
    if package.exists():
        say(f"{version} exists already: its card is from the night that first made it")
    else:
        with needed("the model's package cannot be written", registry.root):
            package = build.stage(
                registry,
                finished.exported,
                finished.point,
                training=training,
                now=night.now,
                population=population,
                familiarity=finished.familiarity,
                learnt=marks_of(dataset.scans, since=start.weights and start.weights.parent),
            )
    return Made(
        version=version,
        package=package,
        training=training,
        calibration_side=finished.calibration_side,
    )


Maker = Callable[[Night], Made]


def _population(plan: Plan, registry: Registry) -> Population:
    """Return the population of the films: from the settings, else that of the champion."""
    if plan.population is not None:
        return plan.population
    champion = registry.champion() if plan.start == "champion" else None
    if champion is not None:
        with suppress(ModelPackageError, RegistryError):  # an unreadable package has no population
            return registry.manifest(champion).tested_on
    return Population(source=plan.population_note)


def _start(plan: Plan, dataset: Dataset, registry: Registry, architecture: Architecture) -> Start:
    if plan.start != "champion":
        return from_scratch()
    return choose_start(
        registry,
        architecture=describe(architecture),
        salt=plan.salt,
        test=dataset.side(Side.TEST),
        calibration=dataset.side(Side.CALIBRATION),
    )


def _first_network(architecture: Architecture, start: Start, recipe: Recipe) -> keras.Model:
    """Return the network with its initial weights."""
    keras.utils.clear_session()  # layer names are in the served file: number them from one
    keras.utils.set_random_seed(recipe.seed)
    network = build_network(architecture)
    if start.weights is not None:
        network.load_weights(start.weights)
    return network


@dataclass(frozen=True, kw_only=True)
class _Finished:
    exported: build.Exported
    point: OperatingPoint
    aims: Aims
    familiarity: familiarity.Familiarity
    calibration_side: Metrics


def _finish(
    network: keras.Model,
    train: Examples,
    calibration: CalibrationFilms,
    others: OtherFilms,
    *,
    now: datetime,
) -> _Finished:
    """Calibrate, export, choose the operating point, and fit familiarity."""
    # The calibration's shift goes into the network's bias, and its temperature into the manifest.
    films = calibration.examples
    truth = films.labels > 0.5
    raw = network.predict(InOrder(films), verbose=0)["logit"][:, 0]
    scale = fit_calibration(truth, raw.astype(np.float64))
    shift_logit(network, scale.shift)

    # The threshold is chosen on the outputs of the served file, not on those of Keras.
    exported = build.export(network, now=now)
    logits = build.litert_logits(exported.served, films.films()).astype(np.float64)
    aims = affordable(
        truth,
        logits,
        temperature=scale.temperature,
        as_they_are=len(calibration.as_they_are),
    )
    point = choose_operating_point(truth, logits, temperature=scale.temperature, aims=aims)

    # Familiarity uses the features of the network that serves.
    return _Finished(
        exported=exported,
        point=point,
        aims=aims,
        familiarity=familiarity.fit(
            familiarity.describe(exported.served, train.films()),
            familiarity.describe(exported.served, calibration.as_they_are.films()),
            others=familiarity.describe(exported.served, others.films) if others.films else None,
            towards=others.towards,
        ),
        calibration_side=evaluate(truth, logits, point),
    )


def _course(fitted: Fitted) -> dict[str, Any]:
    """Return the course of fitting, for the manifest."""
    return {
        "minutes": sum(epoch["seconds"] for epoch in fitted.curve) / 60,
        "ended": fitted.ended,
        "epoch": fitted.epoch,  # of these weights
        "curve": fitted.curve,
    }


def _examples(dataset: Dataset, films: Films, side: Side) -> Examples:
    scans = dataset.side(side)
    return Examples(
        pixels=films.pixels,
        rows=np.array([films.rows[scan.sha256] for scan in scans], dtype=np.intp),
        labels=is_positive(scans).astype(np.float32),
    )


def _calibration(night: Night, framing: Framing, scratch: Path) -> CalibrationFilms:
    """Return the calibration side in three ways, in a file in the scratch folder."""
    plan, dataset = night.plan, night.dataset
    scans = dataset.side(Side.CALIBRATION)
    with needed("calibration films cannot be kept", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    return read_calibration_films(
        scans,
        dataset.side(Side.TRAIN),
        [night.films.pixels[night.films.rows[scan.sha256]] for scan in scans],
        framing,
        seed=plan.seed,
        place=scratch / "calibration.pixels",
    )


def _scratch(root: Path, inputs: dict[str, Any]) -> Path:
    """Return the folder in which this very run can continue, and remove those of other runs."""
    made_by = {"backend": keras.backend.backend(), "code": code_digest()}
    digest = hashlib.sha256(json.dumps(inputs | made_by, sort_keys=True).encode()).hexdigest()
    folder = root / f"fit-{digest[:16]}"
    for other in root.glob("fit-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder
